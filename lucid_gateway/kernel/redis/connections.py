"""How connections to Redis are opened and closed, and how Sentinel's primary is found."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, LifoQueue
from typing import Any, Final, NamedTuple

from redis import BlockingConnectionPool, Connection, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.utils import str_if_bytes

# The breaker in `lucid_gateway.kernel.redis.access` decides when to try again.
NO_RETRY: Final = Retry(NoBackoff(), 0)


def timeout_options(seconds: float) -> dict[str, float]:
    """Return redis-py's options for a timeout of `seconds` to connect, and of the same time for each answer."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


class PoolBusy(RedisError):
    """All connections of this process stayed busy, which says nothing about the state of Redis."""


class ConnectionQueue(LifoQueue[Any]):
    """The idle connections of a pool. Raises PoolBusy, because redis-py reports an empty queue as a lost connection."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; raise PoolBusy if none is given back within `timeout` seconds."""
        try:
            return super().get(block, timeout)
        except Empty:
            raise PoolBusy("all connections are busy") from None


class RedisPool(BlockingConnectionPool):
    """The connections of one process, including those that are used outside the pool."""

    def __init__(self, **options: Any) -> None:
        super().__init__(queue_class=ConnectionQueue, **options)  # type: ignore[no-untyped-call]

    def shut_down_all(self) -> None:
        """Shut down the sockets of all connections: calls in progress fail immediately, later ones reconnect.

        The connections are not disconnected, because redis-py does not allow that while another thread uses them.
        """
        for connection in list(self._connections):
            sock = connection._get_socket()
            if sock is not None:
                with suppress(OSError):
                    # Not with the TLS socket's own method, which would end TLS under the thread that reads.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class SentinelReply(NamedTuple):
    """One Sentinel's view of the group. `epoch` is the number of the last failover, so the highest one is right."""

    epoch: int
    address: tuple[str, int]
    is_up: bool


class Primary:
    """The address of the primary of a Sentinel group.

    All connections lead to the remembered address. A caller of `forget`, or one that gets another address from `ask`,
    must drop them.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], group: str, *, seconds: float) -> None:
        """`seconds` is the timeout for connecting to a Sentinel, and for each of its answers."""
        options = timeout_options(seconds)
        self.sentinels = [Redis(host, port, protocol=2, retry=NO_RETRY, **options) for host, port in sentinels]  # type: ignore[arg-type]
        self.group = group
        self.address: tuple[str, int] | None = None
        self.epoch = 0

    def forget(self) -> None:
        """Make the next connection ask the Sentinels first."""
        self.address = None

    def current(self) -> tuple[str, int]:
        """Return the remembered address, or ask the Sentinels; raise redis.exceptions.ConnectionError."""
        return self.address or self.ask()

    def ask(self) -> tuple[str, int]:
        """Ask all Sentinels, remember and return the address; raise ConnectionError if none names one that is up.

        It asks all of them, because an isolated Sentinel still names an earlier primary. Answers with an older epoch
        than a known one are ignored, unless all Sentinels answer so: then they were set up again.
        """
        answers = [answer for sentinel in self.sentinels if (answer := self.answer_of(sentinel))]
        newest = max((answer.epoch for answer in answers), default=0)
        if newest >= self.epoch or len(answers) == len(self.sentinels):
            for answer in answers:
                if answer.epoch == newest and answer.is_up:
                    self.epoch, self.address = newest, answer.address
                    return answer.address
        raise RedisConnectionError(f"no Sentinel names a primary of {self.group} that is up")

    def answer_of(self, sentinel: Redis) -> SentinelReply | None:
        """Return the Sentinel's view, or None if it does not answer or does not know the group."""
        try:
            pipeline = sentinel.pipeline(transaction=False)
            pipeline.sentinel_master(self.group)
            pipeline.sentinel_get_master_addr_by_name(self.group)
            state, address = pipeline.execute()
        except RedisError:
            return None
        # During a failover, the address is already that of the new primary; the flags still describe the old one.
        host, port = str_if_bytes(address[0]), address[1]
        moved = (host, port) != (state["ip"], state["port"])
        return SentinelReply(state["config-epoch"], (host, port), moved or not (state["is_sdown"] or state["is_odown"]))


class PrimaryConnection(Connection):
    """A connection to the primary of a Sentinel group."""

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self.primary = primary
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        address = self.host, self.port = self.primary.current()
        sock = super()._connect()  # type: ignore[no-untyped-call]
        if self.primary.address != address:
            # A failover happened while this connected, too early for `shut_down_all` to reach this connection.
            sock.close()
            raise RedisConnectionError("the primary has changed")
        return sock

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Do redis-py's handshake; raise ConnectionError if the server is a replica."""
        super().on_connect_check_health(check_health=check_health)
        self.send_command("INFO", "replication", check_health=False)  # type: ignore[no-untyped-call]
        if b"role:master" not in self.read_response().splitlines():
            raise RedisConnectionError("the server is a replica")


class NoConnection(Connection):
    """A connection that cannot be opened."""

    def _connect(self) -> Any:
        raise RedisConnectionError("no node of the cluster serves this slot")
