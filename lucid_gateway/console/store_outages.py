"""Whether this worker has Redis and the database, from what its background loops have found: no page asks them."""

import time

from accounts.tokens.keyring import keyring_cache
from lucid_gateway.kernel.loops import SECONDS as POLLED_SECONDS
from lucid_gateway.kernel.redis.access import breaker

# Three rounds of reading the signing keys.
DATABASE_SILENT_SECONDS = 3 * POLLED_SECONDS + 1


def redis_lost_seconds() -> float | None:
    """Return since how many seconds this worker has no Redis, None if it has it."""
    outage = breaker.outage
    return time.monotonic() - outage.started if outage else None


def database_silent_seconds() -> float | None:
    """Return since how many seconds this worker has read nothing from the database, None if it reads."""
    if keyring_cache.read_at is None:  # no loop reads in this process
        return None
    silent = time.monotonic() - keyring_cache.read_at
    return silent if silent > DATABASE_SILENT_SECONDS else None
