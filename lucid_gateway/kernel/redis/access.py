"""Access to Redis: which server has a key, and short calls to it through that server's pool and breaker."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TypeVar, cast

from django.conf import settings
from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import TryAgainError

from lucid_gateway.kernel.redis.breaker import (
    PROBE_EVERY_SECONDS,
    Outage,
    RedisBreaker,
    RedisCallFailed,
    RedisUnavailable,
)
from lucid_gateway.kernel.redis.cluster import RedisCluster
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.kernel.redis.slots import slot_of, tags

__all__ = [
    "PROBE_EVERY_SECONDS", "Outage", "RedisBreaker", "RedisCallFailed", "RedisUnavailable", "breaker", "by_server",
    "cluster", "ping", "redis_call", "redis_client", "server_of", "servers", "single_server", "tag_of",
]  # fmt: skip

T = TypeVar("T")
Item = TypeVar("Item")


def redis_client() -> Redis:
    """Return the process's client of a single server; commands sent directly through it bypass the breaker."""
    return cast(Redis, get_redis_connection("default"))


# The only server, unless REDIS_URL names a cluster.
single_server = Server(redis_client)
breaker = single_server.breaker


@cache
def cluster() -> RedisCluster | None:
    """Return the cluster that REDIS_URL names, None if it names a single server or a Sentinel group."""
    if settings.REDIS_CLUSTER is None:
        return None
    found = RedisCluster(*settings.REDIS_CLUSTER)
    found.follow()
    return found


def servers() -> Sequence[Server]:
    """Return all servers that have keys."""
    found = cluster()
    return found.servers() if found else (single_server,)


def server_of(key: str) -> Server:
    """Return the server that has the key."""
    found = cluster()
    return found.server_of(key) if found else single_server


def tag_of(key: str) -> str:
    """Return the tag of the key's slot in a cluster (see `policy.keys.in_slot`), an empty text outside a cluster."""
    return tags()[slot_of(key)] if cluster() else ""


def by_server(items: Iterable[Item], key: Callable[[Item], str]) -> dict[Server, list[Item]]:
    """Return the items by the server that has the key of each."""
    found: dict[Server, list[Item]] = {}
    for item in items:
        found.setdefault(server_of(key(item)), []).append(item)
    return found


def redis_call(key: str, command: Callable[[Redis], T]) -> T:
    """Run one short command, script or pipeline on the server that has the key, and return its result.

    All of its keys must be on that server. Raises RedisUnavailable.
    """
    found = cluster()
    if found is None:
        return single_server.call(command)

    def run(server: Server, asking: bool) -> T:
        if asking:
            raise TryAgainError  # soon the server will have the slot: ASKING is for one command, this may be several
        return command(server.client())

    return found.call(key, run)


def ping() -> bool:
    """Send PING to all servers; raise RedisUnavailable if one does not answer."""
    return all(server.call(lambda redis: redis.ping()) for server in servers())
