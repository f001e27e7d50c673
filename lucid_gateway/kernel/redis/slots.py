"""The slots of a Redis Cluster (Redis Cluster specification, "Key distribution model" and "Hash tags")."""

from binascii import crc_hqx
from functools import cache

SLOTS = 16_384


def slot_of(key: str) -> int:
    """Return the slot of a key: of the text in its first braces, or of all of it."""
    start = key.find("{")
    end = key.find("}", start + 1) if start >= 0 else -1
    return crc_hqx((key[start + 1 : end] if end > start + 1 else key).encode(), 0) % SLOTS


@cache
def tags() -> tuple[str, ...]:
    """Return a short tag for each slot, which puts a key into it: the smallest number that does."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOTS:
        found.setdefault(slot_of(str(number)), str(number))
        number += 1
    return tuple(found[slot] for slot in range(SLOTS))
