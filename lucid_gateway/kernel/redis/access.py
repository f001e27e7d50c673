"""Access to Redis: a bounded pool and a breaker for each process, and connections outside the pool."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from lucid_gateway.kernel.redis.breaker import (
    PROBE_EVERY_SECONDS,
    Outage,
    RedisBreaker,
    RedisCallFailed,
    RedisUnavailable,
)
from lucid_gateway.kernel.redis.connections import Primary, RedisPool
from lucid_gateway.policy.keys import REDIS_PROBE

__all__ = [
    "PROBE_EVERY_SECONDS", "Outage", "Probe", "RedisBreaker", "RedisCallFailed", "RedisUnavailable", "breaker", "ping",
    "redis_call", "redis_client",
]  # fmt: skip

T = TypeVar("T")
SLOW_SECONDS = 0.15  # a longer answer is slow


def redis_client() -> Redis:
    """Return the process's client; commands sent directly through it bypass the breaker."""
    return cast(Redis, get_redis_connection("default"))


def primary() -> Primary | None:
    """Return the `Primary` that knows the primary's address, or None without Sentinel."""
    return cast(Primary | None, redis_client().connection_pool.connection_kwargs.get("primary"))


def drop_connections() -> None:
    """Close all connections of this process, even those in use, and ask Sentinel before the next connection."""
    if known := primary():
        known.forget()
    cast(RedisPool, redis_client().connection_pool).shut_down_all()


class ClusterNode(RedisConnectionError):
    """REDIS_URL leads to a node of a Redis Cluster, which refuses commands on keys of several nodes."""

    def __init__(self) -> None:
        super().__init__("the server is a node of a Redis Cluster, which is not supported yet")


class OwnConnection:
    """A connection outside the pool, and the run id of its server."""

    def __init__(self) -> None:
        self.pool = redis_client().connection_pool
        # Any: redis-py's connections are not typed.
        self.redis: Any = self.pool.make_connection()
        self.run_id = b""

    def open(self) -> None:
        """Connect, and read the server's run id, which cannot change while the connection lasts.

        Raises ClusterNode, or another redis.exceptions.RedisError.
        """
        self.redis.connect()
        self.redis.send_command("INFO", "server")
        info = dict(line.split(b":", 1) for line in self.redis.read_response().splitlines() if b":" in line)
        if info.get(b"redis_mode") == b"cluster":
            raise ClusterNode
        self.run_id = info[b"run_id"]


class Probe:
    """Sends Redis a command on a persistent connection of its own."""

    def __init__(self, *command: Any) -> None:
        self.command = command
        self.connection: OwnConnection | None = None

    def __call__(self) -> bool:
        """Return whether the answer came within SLOW_SECONDS; raise redis.exceptions.RedisError if there was none."""
        if self.connection is None or self.connection.pool is not redis_client().connection_pool:
            self.connection = OwnConnection()
        was_open = self.connection.redis.is_connected
        try:
            return self.ask(self.connection)
        except RedisConnectionError:
            if not was_open:
                raise
            return self.ask(self.connection)  # an idle connection was closed: that is not an outage

    def ask(self, connection: OwnConnection) -> bool:
        redis = connection.redis
        try:
            if not redis.is_connected:
                connection.open()
            redis.send_command(*self.command)
            # The kernel says whether the answer has arrived, so that a busy worker does not blame a slow Redis.
            is_fast = redis.can_read(SLOW_SECONDS)
            redis.read_response()
        except BaseException:
            redis.disconnect()
            raise
        return bool(is_fast)


# A write, because a server that is full, or a replica, still answers reads.
breaker = RedisBreaker(Probe("SET", REDIS_PROBE, "", "PX", 1000), drop=drop_connections)


def redis_call(command: Callable[[Redis], T]) -> T:
    """Run one short command or script on Redis and return its result; raise RedisUnavailable."""
    return breaker.call(lambda: command(redis_client()))


def ping() -> Any:
    """Send PING; raise RedisUnavailable."""
    return redis_call(lambda redis: redis.ping())
