"""Whether this worker has Redis and the database, from what its background loops have found: no page asks them."""

import time

from accounts.tokens.keyring import keyring_cache
from lucid_gateway.kernel.loops import SECONDS as POLLED_SECONDS
from lucid_gateway.kernel.redis.access import servers

# Three rounds of reading the signing keys.
DATABASE_SILENT_SECONDS = 3 * POLLED_SECONDS + 1


def redis_lost_seconds() -> float | None:
    """Return since how many seconds this worker lacks Redis, or a node of the cluster; None if it lacks nothing."""
    outages = [server.breaker.outage for server in servers()]
    started = [outage.started for outage in outages if outage]
    return time.monotonic() - min(started) if started else None


def lost_nodes() -> list[str]:
    """Return the nodes of the cluster that this worker cannot use; none without a cluster, or if it can use no node."""
    lost = [str(server) for server in servers() if server.breaker.outage]
    return lost if len(lost) < len(servers()) else []


def database_silent_seconds() -> float | None:
    """Return since how many seconds this worker has read nothing from the database, None if it reads."""
    if keyring_cache.read_at is None:  # no loop reads in this process
        return None
    silent = time.monotonic() - keyring_cache.read_at
    return silent if silent > DATABASE_SILENT_SECONDS else None
