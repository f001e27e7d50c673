"""A given number of concurrent requests, each on its own connection, which wrk cannot send and wait for."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.load import Target

CONNECT_SECONDS = 10


@dataclass
class PendingAnswer:
    """One request and the bytes received of its answer."""

    connection: socket.socket
    began: float = 0.0
    seconds: float | None = None
    received: bytes = b""

    def read(self) -> bool:
        """Read what has arrived; return whether the answer has ended, complete or not."""
        try:
            piece = self.connection.recv(65_536)
        except OSError:
            return True
        self.received += piece
        head, found, body = self.received.partition(b"\r\n\r\n")
        whole = bool(found) and len(body) >= _content_length(head)
        if whole:
            self.seconds = time.monotonic() - self.began
        return whole or not piece

    @property
    def served(self) -> bool:
        """Whether the answer is complete and has status 200."""
        return self.seconds is not None and self.received.split(b" ", 2)[1] == b"200"


@dataclass(frozen=True)
class Burst:
    """The result of all requests: the seconds that each served one took, and the number of the others."""

    served: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, percent: float) -> float:
        """Seconds within which that percentage of all requests was served; infinite if it was not reached."""
        everything = sorted(self.served) + [float("inf")] * self.failed
        return everything[min(len(everything) - 1, int(len(everything) * percent / 100))]


def burst(target: Target, *, requests: int, patience: float) -> Burst:
    """Open all connections, then send all requests, and wait at most `patience` seconds for the answers."""
    with ExitStack() as connections, selectors.DefaultSelector() as selector:
        pending = [PendingAnswer(connections.enter_context(target.connect(CONNECT_SECONDS))) for _ in range(requests)]
        head = target.head("GET")
        for one in pending:
            selector.register(one.connection, selectors.EVENT_READ, one)
            one.began = time.monotonic()
            one.connection.sendall(head)
        for one in _until_silent(selector, time.monotonic() + patience):
            if one.read():
                selector.unregister(one.connection)
    served = [one.seconds for one in pending if one.served and one.seconds is not None]
    return Burst(served, requests - len(served))


def _until_silent(selector: selectors.BaseSelector, end: float) -> Iterator[PendingAnswer]:
    """Yield each request with bytes to read, until all are unregistered or the time is over."""
    while selector.get_map() and (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            yield key.data


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
