"""The listening socket at its end: no connection that the kernel has accepted for it may be lost.

A listener that is closed resets what waits in its accept queue, and between finding the queue empty and closing there
is time for one more. So before a gateway closes its listener for good it lets the kernel drop what would begin another
connection for a moment, serves what is queued, finds the queue empty for good, and closes. A client whose first packet
was dropped sends it again after a second: it is refused then, and may ask another gateway, or it reaches the successor
of this one.
"""

import contextlib
import ctypes
import mmap
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.server import StreamServer

# From asm-generic/socket.h of Linux; Python has no name for it.
SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header (socket(7)): load byte 13, the flags; drop the packet if SYN is set, else take it.
DROP_SYN = [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
# Seconds: for the handshakes that are under way, and for the successor of a worker that is replaced to start.
HANDSHAKE_SECONDS, SUCCESSION_SECONDS = 0.1, 5.0

# Shared by the master with its workers: 1 when nobody will listen on the gateway's sockets after them.
ending = mmap.mmap(-1, 1)


class NameOf:
    """What gunicorn asks a listener for as it begins to serve a connection, when the listener may be closed already."""

    def __init__(self, listener: socket.socket) -> None:
        self.name = listener.getsockname()

    def getsockname(self) -> Any:
        """Return the address."""
        return self.name


def stop_accepting(servers: list[StreamServer], notify: Callable[[], None], deadline: float) -> None:
    """Serve what has been or is being accepted, then close the servers' listeners; not after the deadline, which is of
    `time.monotonic`.
    """
    succeeded = time.monotonic() + SUCCESSION_SECONDS
    while not ending[0] and time.monotonic() < succeeded:
        gevent.sleep(HANDSHAKE_SECONDS)
    for server in servers:
        if ending[0]:
            drop_new_connections(server.socket)
            gevent.sleep(HANDSHAKE_SECONDS)
        while not serve_queued(server) and time.monotonic() < deadline:
            notify()
            gevent.sleep(HANDSHAKE_SECONDS)
        server.close()


def drop_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop what would begin a connection. Where it cannot, a moment remains in which one may be lost."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    with contextlib.suppress(OSError):
        pointer = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)


def serve_queued(server: StreamServer) -> bool:
    """Serve the connections in the accept queue; return whether it is empty, which it is not if there is no room."""
    while not server.full():
        accepted = server.do_read()
        if accepted is None:
            return True
        server.do_handle(*accepted)
    return False
