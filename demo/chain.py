"""The made-up chain `lucid_blocks`: every fact follows from the height, so a block always looks the same."""

import hashlib
import time
from typing import Any

from demo.routing import rfc3339

NETWORK = "lucid_blocks"
BLOCK_SECONDS = 10
GENESIS_SECONDS = 1_736_536_080  # 2025-01-10T19:08:00Z
MOST_TRANSACTIONS = 100  # a block holds fewer than this
VALIDATORS = tuple(f"lucid-validator-{number:02d}" for number in range(1, 8))


def current_height() -> int:
    """Height of the newest block: one block every 10 seconds since genesis (height 0)."""
    return int(time.time() - GENESIS_SECONDS) // BLOCK_SECONDS


def sealed(kind: str, number: int) -> str:
    """A hash-like name (64 hex digits) for the `number`th object of a kind; `unsealed` returns the number again."""
    head = hashlib.sha256(f"{NETWORK}:{kind}:{number}".encode()).digest()[:24]
    return (head + (number ^ _mask(head)).to_bytes(8)).hex()


def unsealed(kind: str, name: str) -> int | None:
    """The number that `sealed` made this name from; None for any other text."""
    try:
        raw = bytes.fromhex(name)
    except ValueError:
        return None
    if len(raw) != 32:
        return None
    number = int.from_bytes(raw[24:]) ^ _mask(raw[:24])
    return number if sealed(kind, number) == name.lower() else None


def _mask(head: bytes) -> int:
    return int.from_bytes(hashlib.sha256(head).digest()[:8])


def block_hash(height: int) -> str:
    """Hash of the block at a height; genesis has 64 zeros as its predecessor (height -1)."""
    return sealed("block", height) if height >= 0 else "0" * 64


def find_block(name: str) -> int | None:
    """Height of the block named by its height, its hash or `latest`; None for an unknown block."""
    if name == "latest":
        return current_height()
    height = int(name) if name.isdecimal() and len(name) < 20 else unsealed("block", name)
    return height if height is not None and height <= current_height() else None


def transaction_ids(height: int) -> list[str]:
    """Names of the transactions of one block, in order."""
    count = 1 + bytes.fromhex(block_hash(height))[1] % 12
    return [sealed("transaction", height * MOST_TRANSACTIONS + index) for index in range(count)]


def merkle_root(leaves: list[str]) -> str:
    """Root of the SHA-256 tree over hex leaves (RFC 6962, 2.1: 0x00 before leaves, 0x01 before nodes)."""

    def root(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return hashlib.sha256(b"\x00" + part[0]).digest()
        split = 1 << (len(part) - 1).bit_length() - 1
        return hashlib.sha256(b"\x01" + root(part[:split]) + root(part[split:])).digest()

    return root([bytes.fromhex(leaf) for leaf in leaves]).hex()


def block(height: int) -> dict[str, Any]:
    """One block with the names of its transactions."""
    ids = transaction_ids(height)
    return {
        "height": height,
        "hash": block_hash(height),
        "prev_hash": block_hash(height - 1),
        "merkle_root": merkle_root(ids),
        "timestamp": rfc3339(GENESIS_SECONDS + height * BLOCK_SECONDS),
        "validator": VALIDATORS[height % len(VALIDATORS)],
        "transaction_count": len(ids),
        "size_bytes": 512 + 256 * len(ids),
        "transactions": ids,
    }


def transaction(name: str) -> dict[str, Any] | None:
    """The confirmed transaction with that name, None if no block has it."""
    number = unsealed("transaction", name)
    if number is None or number // MOST_TRANSACTIONS > current_height():
        return None
    height, index = divmod(number, MOST_TRANSACTIONS)
    if index >= len(transaction_ids(height)):
        return None
    return {
        "transaction_id": name.lower(),
        "type": "session_anchor",
        "status": "confirmed",
        "block_height": height,
        "block_hash": block_hash(height),
        "index": index,
        "session_root": hashlib.sha256(name.lower().encode()).hexdigest(),
        "timestamp": rfc3339(GENESIS_SECONDS + height * BLOCK_SECONDS),
        "confirmations": current_height() - height + 1,
    }
