"""One Redis server that this process uses: a single one, the primary of a Sentinel group, or a master of a cluster."""

from collections.abc import Callable
from functools import cached_property
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from lucid_gateway.kernel.redis.breaker import REDIRECTIONS, RedisBreaker, RedisCallFailed
from lucid_gateway.kernel.redis.connections import PoolBusy, Primary, RedisPool
from lucid_gateway.policy import keys

T = TypeVar("T")
SLOW_SECONDS = 0.15  # a longer answer is slow
MAX_CONNECTIONS = 32
WAIT_SECONDS = 2.0


class ClusterNode(RedisConnectionError):
    """REDIS_URL names a single server, but leads to a node of a Redis Cluster."""

    def __init__(self) -> None:
        super().__init__("the server is a node of a Redis Cluster; expected redis+cluster://")


class Server:
    """The server, with what this process has for it: clients, connections and a breaker.

    `tags` are the tags of the slots that it serves in a cluster (see `policy.keys.in_slot`); a server outside a cluster
    has one, which is empty.
    """

    def __init__(self, client: Callable[[], Redis], *, address: tuple[str, int] = ("", 0)) -> None:
        self.client, self.address = client, address
        self.tags: tuple[str, ...] = ("",)
        self.breaker = RedisBreaker(Probe(self, self.probe_command), drop=self.drop_connections)

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}" if host else "Redis"

    @property
    def is_cluster_node(self) -> bool:
        """Whether it is a node of a cluster."""
        return bool(self.address[0])

    @property
    def home(self) -> str:
        """The tag of the slot that has the keys about the server itself."""
        return self.tags[0]

    @cached_property
    def connections(self) -> "OwnConnections":
        """The connections for scripts, made on first use, after the worker was forked."""
        return OwnConnections(self)

    @property
    def pool(self) -> RedisPool:
        """The pool of the client's connections, which also knows all others."""
        return cast(RedisPool, self.client().connection_pool)

    @property
    def primary(self) -> Primary | None:
        """What knows the primary's address, or None without Sentinel."""
        return cast(Primary | None, self.pool.connection_kwargs.get("primary"))

    def call(self, command: Callable[[Redis], T]) -> T:
        """Run one short command or script on this server and return its result; raise RedisUnavailable."""
        try:
            return self.breaker.call(lambda: command(self.client()))
        except REDIRECTIONS as error:
            raise RedisCallFailed("the slot has moved") from error

    def probe_command(self) -> tuple[Any, ...]:
        """Return a write, because a server that is full, or a replica, still answers reads."""
        return "SET", keys.in_slot(keys.REDIS_PROBE, self.home), "", "PX", 1000

    def drop_connections(self) -> None:
        """Close all connections of this process, even those in use, and ask Sentinel before the next connection."""
        if known := self.primary:
            known.forget()
        self.pool.shut_down_all()

    def retire(self) -> None:
        """Close all connections and end the probing: other masters of the cluster have the slots of this one."""
        self.drop_connections()
        self.breaker.close()


class OwnConnection:
    """A connection outside the pool, and the run id of its server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pool = server.pool
        # Any: redis-py's connections are not typed.
        self.redis: Any = self.pool.make_connection()  # type: ignore[no-untyped-call]
        self.run_id = b""

    def open(self) -> None:
        """Connect, and read the server's run id, which cannot change while the connection lasts.

        Raises ClusterNode, or another redis.exceptions.RedisError.
        """
        self.redis.connect()
        self.redis.send_command("INFO", "server")
        info = dict(line.split(b":", 1) for line in self.redis.read_response().splitlines() if b":" in line)
        if info.get(b"redis_mode") == b"cluster" and not self.server.is_cluster_node:
            raise ClusterNode
        self.run_id = info[b"run_id"]


class OwnConnections:
    """The connections of one process for scripts. A burst of requests waits for a connection instead of failing."""

    def __init__(self, server: Server) -> None:
        self.breaker = server.breaker
        self.idle: SimpleQueue[OwnConnection] = SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self.idle.put(OwnConnection(server))

    def take(self) -> OwnConnection:
        """Return an idle connection, which may be closed; raise PoolBusy if all stay busy."""
        try:
            return self.idle.get_nowait()
        except Empty:
            return self.wait()

    def wait(self) -> OwnConnection:
        """Return the next connection that is given back; raise RedisError on a timeout or once the breaker is open."""
        try:
            connection = self.idle.get(timeout=WAIT_SECONDS)
        except Empty:
            raise PoolBusy("all connections are busy") from None
        if self.breaker.outage:
            self.give_back(connection)
            raise RedisConnectionError("the breaker has opened")
        return connection

    def give_back(self, connection: OwnConnection) -> None:
        self.idle.put(connection)


class Probe:
    """Sends a server a command on a persistent connection of its own."""

    def __init__(self, server: Server, command: Callable[[], tuple[Any, ...]]) -> None:
        self.server, self.command = server, command
        self.connection: OwnConnection | None = None

    def __call__(self) -> bool:
        """Return whether the answer came within SLOW_SECONDS; raise redis.exceptions.RedisError if there was none."""
        if self.connection is None or self.connection.pool is not self.server.pool:
            self.connection = OwnConnection(self.server)
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
            redis.send_command(*self.command())
            # The kernel says whether the answer has arrived, so that a busy worker does not blame a slow Redis.
            is_fast = redis.can_read(SLOW_SECONDS)
            redis.read_response()
        except BaseException:
            redis.disconnect()
            raise
        return bool(is_fast)
