"""A cluster's server that records every request as it came, and answers, or fails, exactly as a test says."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Self

from proxy.clusters import Instance
from testing.http.messages import REQUEST_LINE, Cut, Ended, Message
from testing.http.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Visit(Wire):
    """The server's end of one connection; `over` is set when it has ended."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        super().__init__(sock)
        self.start_line = REQUEST_LINE
        self.number = number
        self.request = Message()
        self.over = threading.Event()


Behaviour = Callable[[Visit], None]


def saying(*pieces: bytes) -> Behaviour:
    """Return the behaviour of a server that sends these bytes and waits for the next request."""

    def behave(visit: Visit) -> None:
        for piece in pieces:
            visit.send(piece)

    return behave


def saying_and_closing(*pieces: bytes) -> Behaviour:
    """Return the behaviour of a server that sends these bytes and closes."""

    def behave(visit: Visit) -> None:
        saying(*pieces)(visit)
        visit.sock.shutdown(socket.SHUT_RDWR)
        raise Ended

    return behave


def saying_and_resetting(*pieces: bytes) -> Behaviour:
    """Return the behaviour of a server that sends these bytes and resets the connection."""

    def behave(visit: Visit) -> None:
        saying(*pieces)(visit)
        visit.reset()
        raise Ended

    return behave


class RawCluster:
    """The server, with a thread for each connection, on the given port or a free one. A context manager.

    `behaviour` is called after each whole request; `on_head`, if set, is called instead, before the body is read.
    """

    def __init__(self, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self.listener.getsockname()[1]
        self.visits: list[Visit] = []
        self.accepted = 0
        self.forget()

    def forget(self) -> None:
        """Close all connections, and start anew."""
        self.hang_up()
        self.requests: list[Message] = []
        self.broken: list[Message] = []
        self.behaviour: Behaviour = saying(OK)
        self.on_head: Behaviour | None = None

    def hang_up(self) -> None:
        """Close all connections, as a server does with idle ones."""
        for visit in self.visits:
            with contextlib.suppress(OSError):
                visit.sock.shutdown(socket.SHUT_RDWR)
            visit.close()
        self.visits = []

    @property
    def instance(self) -> Instance:
        return Instance("http", "127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return self.instance.url

    @property
    def request(self) -> Message:
        """Return the one request that came."""
        (request,) = self.requests
        return request

    def __enter__(self) -> Self:
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                self.accepted += 1
                visit = Visit(sock, self.accepted)
                self.visits.append(visit)
                threading.Thread(target=self.serve, args=[visit], daemon=True).start()

    def serve(self, visit: Visit) -> None:
        """Serve a connection until either side ends it."""
        with visit, contextlib.suppress(OSError, Ended):
            try:
                while True:
                    self.serve_one(visit)
            except Cut as cut:
                self.broken.append(cut.message)
            finally:
                visit.over.set()

    def serve_one(self, visit: Visit) -> None:
        visit.request = visit.read_head()
        visit.request.connection = visit.number
        on_head = self.on_head
        if on_head is None:
            visit.read_body(visit.request)
        self.requests.append(visit.request)
        (on_head or self.behaviour)(visit)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Yield the port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def deaf_server() -> Iterator[int]:
    """Yield the port of a server whose backlog is full: connections to it come to nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        yield port
        for sock in waiting:
            sock.close()
