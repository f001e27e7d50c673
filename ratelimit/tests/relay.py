"""A TCP relay in front of a real server: it records what passes to the server, and can delay the answers."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

PIECE = 64 * 1024


@dataclass
class Relay:
    """A running relay; `delay` is seconds for each piece of an answer, `passed` (monotonic time, bytes) of requests."""

    port: int
    delay: float = 0.0
    passed: list[tuple[float, int]] = field(default_factory=list)


@contextlib.contextmanager
def running_relay(server_port: int) -> Iterator[Relay]:
    """Relay to a server on this machine, which may be stopped and started."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        relay = Relay(listener.getsockname()[1])
        threading.Thread(target=accept, args=(relay, listener, server_port), daemon=True).start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def accept(relay: Relay, listener: socket.socket, server_port: int) -> None:
    """Take connections until the listener closes."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=connect, args=(relay, client, server_port), daemon=True).start()


def connect(relay: Relay, client: socket.socket, server_port: int) -> None:
    """Relay in both directions until one end closes; while the server is stopped, close the client's connection."""
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server_port)) as server:
        answers = threading.Thread(target=pass_on, args=(relay, server, client, True), daemon=True)
        answers.start()
        pass_on(relay, client, server, False)
        answers.join()


def hold(relay: Relay) -> None:
    """Wait for the delay; when it is removed, stop waiting at once."""
    started = time.monotonic()
    while time.monotonic() - started < relay.delay:
        time.sleep(0.005)


def pass_on(relay: Relay, source: socket.socket, target: socket.socket, answers: bool) -> None:
    """Relay what the source sends until it ends, then close both directions."""
    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            if answers:
                hold(relay)
            else:
                relay.passed.append((time.monotonic(), len(piece)))
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
