"""The way to Redis: a bounded pool and a breaker for each process, and connections outside the pool."""

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
SLOW_SECONDS = 0.15  # an answer that takes longer is slow


def redis_client() -> Redis:
    """Return the process's client; commands through it are not guarded by the breaker."""
    return cast(Redis, get_redis_connection("default"))


def primary() -> Primary | None:
    """Return what knows the address of the primary, None without Sentinel."""
    return cast(Primary | None, redis_client().connection_pool.connection_kwargs.get("primary"))


def drop_connections() -> None:
    """End all connections of this process, those in use too, and ask Sentinel before the next is made."""
    if known := primary():
        known.forget()
    cast(RedisPool, redis_client().connection_pool).hang_up()


class ClusterNode(RedisConnectionError):
    """REDIS_URL leads to a node of a Redis Cluster, which refuses what concerns several keys."""

    def __init__(self) -> None:
        super().__init__("the server is a node of a Redis Cluster, which is not supported yet")


class OwnConnection:
    """A connection outside the pool, and the run id of the server at its other end."""

    def __init__(self) -> None:
        self.pool = redis_client().connection_pool
        # Any: redis-py's connections are not typed.
        self.redis: Any = self.pool.make_connection()
        self.run_id = b""

    def open(self) -> None:
        """Connect, and ask the server who it is: it stays the same as long as the connection does.

        Raises ClusterNode, or another redis.exceptions.RedisError.
        """
        self.redis.connect()
        self.redis.send_command("INFO", "server")
        facts = dict(line.split(b":", 1) for line in self.redis.read_response().splitlines() if b":" in line)
        if facts.get(b"redis_mode") == b"cluster":
            raise ClusterNode
        self.run_id = facts[b"run_id"]


class Probe:
    """Sends Redis one command on a connection of its own, which is kept."""

    def __init__(self, *command: Any) -> None:
        self.command = command
        self.connection: OwnConnection | None = None

    def __call__(self) -> bool:
        """Return whether the answer came within SLOW_SECONDS; raise redis.exceptions.RedisError when none came."""
        if self.connection is None or self.connection.pool is not redis_client().connection_pool:
            self.connection = OwnConnection()
        was_open = self.connection.redis.is_connected
        try:
            return self.ask(self.connection)
        except RedisConnectionError:
            if not was_open:
                raise
            return self.ask(self.connection)  # it was closed while it was idle: that is no outage

    def ask(self, connection: OwnConnection) -> bool:
        """Send the command and wait for the answer."""
        redis = connection.redis
        try:
            if not redis.is_connected:
                connection.open()
            redis.send_command(*self.command)
            # Whether the answer is there is asked of the kernel: a busy worker does not take itself for a slow Redis.
            is_fast = redis.can_read(SLOW_SECONDS)
            redis.read_response()
        except BaseException:
            redis.disconnect()
            raise
        return bool(is_fast)


# A server that is full, or a replica, answers whatever only reads.
breaker = RedisBreaker(Probe("SET", REDIS_PROBE, "", "PX", 1000), drop=drop_connections)


def redis_call(command: Callable[[Redis], T]) -> T:
    """Run one short command or script on Redis; raise RedisUnavailable when it is not available."""
    return breaker.call(lambda: command(redis_client()))


def ping() -> Any:
    """Ask Redis for a sign of life; raise RedisUnavailable."""
    return redis_call(lambda redis: redis.ping())
