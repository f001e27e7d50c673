"""So many requests at once, each on a connection of its own: wrk cannot send exactly so many and wait for all."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.load import Target

CONNECT_SECONDS = 10


@dataclass
class Asked:
    """One request and what came back of its answer."""

    connection: socket.socket
    began: float = 0.0
    seconds: float | None = None
    received: bytes = b""

    def read(self) -> bool:
        """Take what has arrived; whether the answer is over, whole or not."""
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
        """Whether it was answered whole and with 200."""
        return self.seconds is not None and self.received.split(b" ", 2)[1] == b"200"


@dataclass(frozen=True)
class Burst:
    """What became of all requests: seconds of those that were served, and how many were not."""

    served: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile(self, percent: float) -> float:
        """Seconds within which so many percent of all requests were served; infinite when they were not."""
        everything = sorted(self.served) + [float("inf")] * self.failed
        return everything[min(len(everything) - 1, int(len(everything) * percent / 100))]


def burst(target: Target, *, requests: int, patience: float) -> Burst:
    """Connect, then send all requests in one go, and wait for the answers, but no longer than `patience` seconds."""
    with ExitStack() as connections, selectors.DefaultSelector() as selector:
        asked = [Asked(connections.enter_context(target.connect(CONNECT_SECONDS))) for _ in range(requests)]
        head = target.head("GET")
        for one in asked:
            selector.register(one.connection, selectors.EVENT_READ, one)
            one.began = time.monotonic()
            one.connection.sendall(head)
        for one in _until_silent(selector, time.monotonic() + patience):
            if one.read():
                selector.unregister(one.connection)
    served = [one.seconds for one in asked if one.served and one.seconds is not None]
    return Burst(served, requests - len(served))


def _until_silent(selector: selectors.BaseSelector, end: float) -> Iterator[Asked]:
    """Each that has something to read, until all are unregistered or the time is over."""
    while selector.get_map() and (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            yield key.data


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
