"""How connections to Redis are made and dropped, and with Sentinel the way to the primary of the group."""

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

# The breaker of `lucid_gateway.kernel.redis.access` decides when to try again.
NO_RETRY: Final = Retry(NoBackoff(), 0)


def time_outs(seconds: float) -> dict[str, float]:
    """Return redis-py's options for a server that may take so many seconds to connect, and as many for each answer."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


class PoolBusy(RedisError):
    """All connections of this process stayed busy: that says nothing about Redis."""


class ConnectionQueue(LifoQueue[Any]):
    """The idle connections of a pool. redis-py would take an empty queue for a lost connection."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return a connection; raise PoolBusy when none is given back within `timeout` seconds."""
        try:
            return super().get(block, timeout)
        except Empty:
            raise PoolBusy("all connections are busy") from None


class RedisPool(BlockingConnectionPool):
    """The connections of one process, those that were made for use outside the pool too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(queue_class=ConnectionQueue, **options)  # type: ignore[no-untyped-call]

    def hang_up(self) -> None:
        """End all connections. Those that wait for an answer get an error at once; each is made anew when it is used.

        Only the sockets are shut down: redis-py does not bear that a connection in use is disconnected by others.
        """
        for connection in list(self._connections):
            sock = connection._get_socket()
            if sock is not None:
                with suppress(OSError):
                    # Not by the method of a TLS socket, which would take the reader's TLS away.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


class SentinelReply(NamedTuple):
    """What one Sentinel says of the group: the highest epoch (the number of the last failover) is right."""

    epoch: int
    address: tuple[str, int]
    is_up: bool


class Primary:
    """Where the primary of a Sentinel group is.

    All connections lead to the remembered address: whoever calls `forget`, or finds another address with `ask`,
    drops them.
    """

    def __init__(self, sentinels: Sequence[tuple[str, int]], group: str, *, seconds: float) -> None:
        """Each Sentinel may take so many seconds to connect, and as many for each answer."""
        options = time_outs(seconds)
        self.sentinels = [Redis(host, port, protocol=2, retry=NO_RETRY, **options) for host, port in sentinels]  # type: ignore[arg-type]
        self.group = group
        self.address: tuple[str, int] | None = None
        self.epoch = 0

    def forget(self) -> None:
        """Ask the Sentinels before the next connection is made."""
        self.address = None

    def current(self) -> tuple[str, int]:
        """Return the remembered address, or ask for it; raise redis.exceptions.ConnectionError."""
        return self.address or self.ask()

    def ask(self) -> tuple[str, int]:
        """Ask all Sentinels, remember and return the address; raise ConnectionError when none names one that is up.

        All, because one that was cut off still names an earlier primary. Unless all say so (they may have been set up
        anew), none is believed that lags behind what another has said.
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
        """Return what the Sentinel says, None if it does not answer or does not know the group."""
        try:
            pipeline = sentinel.pipeline(transaction=False)
            pipeline.sentinel_master(self.group)
            pipeline.sentinel_get_master_addr_by_name(self.group)
            state, address = pipeline.execute()
        except RedisError:
            return None
        # During a failover the address is the new primary's already, and the flags are still those of the old one.
        host, port = str_if_bytes(address[0]), address[1]
        moved = (host, port) != (state["ip"], state["port"])
        return SentinelReply(state["config-epoch"], (host, port), moved or not (state["is_sdown"] or state["is_odown"]))


class PrimaryConnection(Connection):
    """A connection to the primary of a Sentinel group."""

    def __init__(self, *, primary: Primary, **options: Any) -> None:
        self.primary = primary
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        """Connect to the address that the Sentinels name."""
        address = self.host, self.port = self.primary.current()
        sock = super()._connect()  # type: ignore[no-untyped-call]
        if self.primary.address != address:
            # There was a failover while this connected: whoever noticed it could not drop this connection yet.
            sock.close()
            raise RedisConnectionError("the primary has changed")
        return sock

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the server; raise ConnectionError if it is a replica."""
        super().on_connect_check_health(check_health=check_health)
        self.send_command("INFO", "replication", check_health=False)  # type: ignore[no-untyped-call]
        if b"role:master" not in self.read_response().splitlines():
            raise RedisConnectionError("the server is a replica")
