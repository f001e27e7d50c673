"""How to close the listening socket without losing a connection that the kernel has accepted.

Closing a listener resets the connections in its accept queue, and one more may arrive between the check that the queue
is empty and the close. So before a gateway closes its listener for good, it lets the kernel drop packets that open new
connections, serves the queue until it is empty, and then closes. A client whose first packet was dropped sends it again
after a second: then it is refused and can try another gateway, or it reaches this gateway's successor.
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
# Classic BPF over the TCP header (socket(7)): load byte 13, the flags; drop the packet if SYN is set, else accept it.
DROP_SYN = [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
# Seconds for handshakes in progress, and for the successor of a replaced worker to start.
HANDSHAKE_SECONDS, SUCCESSION_SECONDS = 0.1, 5.0

# Memory that the master shares with its workers: 1 if no process will listen on the gateway's sockets after them.
ending = mmap.mmap(-1, 1)


class ListenerName:
    """The address of a listener, which gunicorn reads for each connection, even after the listener was closed."""

    def __init__(self, listener: socket.socket) -> None:
        self.name = listener.getsockname()

    def getsockname(self) -> Any:
        return self.name


def stop_accepting(servers: list[StreamServer], notify: Callable[[], None], deadline: float) -> None:
    """Serve the accepted connections, then close the servers' listeners, at the latest at the (monotonic) deadline."""
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
    """Let the kernel drop packets that open a connection. If it cannot, a connection may be lost while we close."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    with contextlib.suppress(OSError):
        pointer = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)


def serve_queued(server: StreamServer) -> bool:
    """Serve the connections in the accept queue; return False if the server is full before the queue is empty."""
    while not server.full():
        accepted = server.do_read()
        if accepted is None:
            return True
        server.do_handle(*accepted)
    return False
