"""TRON addresses: Base58Check over the byte 0x41 and twenty bytes of key hash."""

import secrets

import base58

PREFIX = b"\x41"
LENGTH = 34  # characters of an address


def encode(key_hash: bytes) -> str:
    """The address of a 20-byte key hash; always starts with T."""
    return base58.b58encode_check(PREFIX + key_hash).decode()


def new_address() -> str:
    """A random address whose private key is unknown."""
    return encode(secrets.token_bytes(20))


def is_address(text: object) -> bool:
    """Whether a value is a TRON address with a valid checksum."""
    if not isinstance(text, str) or len(text) != LENGTH:
        return False
    try:
        payload = base58.b58decode_check(text)
    except ValueError:  # a letter outside Base58, or a wrong checksum
        return False
    return len(payload) == 21 and payload.startswith(PREFIX)
