"""TRON addresses: Base58Check over the byte 0x41 and twenty bytes of key hash."""

import hashlib
import secrets

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
PREFIX = 0x41
LENGTH = 34  # characters of an address


def _checksum(payload: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(payload).digest()).digest()[:4]


def encode(key_hash: bytes) -> str:
    """The address of a 20-byte key hash; always starts with T."""
    payload = bytes([PREFIX]) + key_hash
    number, text = int.from_bytes(payload + _checksum(payload)), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return text


def new_address() -> str:
    """A random address that nobody holds the key of."""
    return encode(secrets.token_bytes(20))


def is_address(text: object) -> bool:
    """Whether a value is a TRON address with a right checksum."""
    if not isinstance(text, str) or len(text) != LENGTH or not set(text) <= set(ALPHABET):
        return False
    number = 0
    for character in text:
        number = number * 58 + ALPHABET.index(character)
    raw = number.to_bytes(26)[-25:]
    return raw[0] == PREFIX and _checksum(raw[:-4]) == raw[-4:]
