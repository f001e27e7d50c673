"""The signer of a text by a TRON wallet: signMessageV2 (TIP-191), ECDSA over secp256k1, Base58Check addresses."""

import re

import base58
from coincurve import PublicKey
from coincurve.utils import GROUP_ORDER_INT
from Crypto.Hash import keccak

from accounts.factors.tron_address import MAIN_NET

MESSAGE_PREFIX = b"\x19TRON Signed Message:\n"
HALF_ORDER = GROUP_ORDER_INT // 2
# bytes.fromhex alone would accept spaces.
SIGNATURE = re.compile(r"(?:0[xX])?([0-9a-fA-F]{130})")
# tronweb writes 27 and 28, the TRON app of a Ledger 0 and 1.
RECOVERY_IDS = {0: 0, 1: 1, 27: 0, 28: 1}


class InvalidSignature(ValueError):
    """No key can have made this signature of this message."""


def signer(message: str, signature: str) -> str:
    """Return the address whose key made the signature (r, s and v: 65 bytes in hex) of the message in UTF-8.

    Raises InvalidSignature. Almost every well-formed signature has *some* signer: compare the address.
    """
    recoverable = parse(signature)
    try:
        key = PublicKey.from_signature_and_message(recoverable, digest(message.encode()), hasher=None)
    except ValueError as error:  # a lone surrogate in the message, r or s out of range, or no point with this r
        raise InvalidSignature("The signature belongs to no key.") from error
    return address(key)


def parse(signature: str) -> bytes:
    """Return r, s and the recovery id as 65 bytes; raise InvalidSignature. It does not check r."""
    match = SIGNATURE.fullmatch(signature)
    if match is None:
        raise InvalidSignature("A signature is 65 bytes in hex.")
    raw = bytes.fromhex(match[1])
    # From (r, s, v) anyone can make (r, order - s, other v), which is valid as well. Wallets and tronweb write the
    # lower s, and tronweb refuses the higher one. So a signature has one form, and cannot be used again in another.
    if int.from_bytes(raw[32:64]) > HALF_ORDER:
        raise InvalidSignature("The signature is not canonical: its s is above half the order.")
    if raw[64] not in RECOVERY_IDS:
        raise InvalidSignature("The last byte of a signature is 0, 1, 27 or 28.")
    return raw[:64] + bytes([RECOVERY_IDS[raw[64]]])


def digest(message: bytes) -> bytes:
    """Return the 32 bytes that a wallet signs for a message (TIP-191), including its length in bytes."""
    return keccak256(MESSAGE_PREFIX + str(len(message)).encode() + message)


def address(key: PublicKey) -> str:
    """Return the main-net address of a public key: 0x41 and the last 20 bytes of its hash, in Base58Check."""
    key_hash = keccak256(key.format(compressed=False)[1:])
    return base58.b58encode_check(MAIN_NET + key_hash[-20:]).decode()


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 hash, which is not SHA3-256: the padding differs."""
    return keccak.new(digest_bits=256, data=data).digest()
