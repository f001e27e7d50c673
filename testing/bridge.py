"""A relay before a mongod that knows which member of the set each connection comes from, and can cut some of them off.

A mongod with test commands names its own port when it connects, for MongoDB's own mongobridge.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

OF_MEMBER = re.compile(rb"hostInfo\0.{4}[^\0]*:(\d+)\0", re.DOTALL)
LENGTH_BYTES = 4
CLIENT = 0  # the source of connections that no member has opened


class Bridge:
    """The relay, on a port of its own."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.refused: frozenset[int] = frozenset()
        self.open: list[tuple[int, socket.socket, socket.socket]] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def refuse(self, *members: int) -> None:
        """Cut off the members with these ports, and nobody else."""
        self.refused = frozenset(members)
        for source, *ends in list(self.open):
            if source in self.refused:
                shut(*ends)

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                end, _ = self.listener.accept()
                threading.Thread(target=self.relay, args=[end], daemon=True).start()

    def relay(self, end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            first = read_message(end)
            found = OF_MEMBER.search(first)
            source = int(found[1]) if found else CLIENT
            if source in self.refused:
                return
            with socket.create_connection(("127.0.0.1", self.target)) as other:
                other.sendall(first)
                pair = (source, end, other)
                self.open.append(pair)
                back = threading.Thread(target=pump, args=[other, end], daemon=True)
                back.start()
                pump(end, other)
                back.join()
                self.open.remove(pair)

    def close(self) -> None:
        shut(self.listener)
        self.listener.close()
        for _, *ends in list(self.open):
            shut(*ends)


def read_message(end: socket.socket) -> bytes:
    """Return a whole message of MongoDB's protocol, which begins with its length; raise OSError at the end."""
    received = bytearray()
    while len(received) < LENGTH_BYTES or len(received) < int.from_bytes(received[:LENGTH_BYTES], "little"):
        piece = end.recv(65_536)
        if not piece:
            raise ConnectionError
        received += piece
    return bytes(received)


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until one end closes; then close both."""
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
    shut(source, sink)


def shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running_bridge(port: int, target: int) -> Iterator[Bridge]:
    bridge = Bridge(port, target)
    try:
        yield bridge
    finally:
        bridge.close()
