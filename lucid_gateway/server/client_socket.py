"""The client's side of a connection: how long it is waited for, whether anything has come, and how it ends."""

import contextlib
import socket
import time
from typing import Any

import gevent
from gevent.monkey import get_original

from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.policy.errors import RequestTimeout

# Unpatched: between asking and shutting down no other greenlet may read.
poll, PlainSocket = get_original("select", "poll"), get_original("socket", "socket")

# Bytes per second. Who sends or reads less than that, over the time that clients are waited for, is let go.
SLOWEST_CLIENT = 1000
# After that many bytes others get their turn: a fast connection never waits, and gevent switches only where one waits.
# A request needs some ten turns, so more bytes would delay it noticeably; fewer would cost throughput.
BYTES_A_TURN = 128 * 1024
STEP = 64 * 1024
LINGER_SECONDS = 5.0


class PatientSocket:
    """The client's socket for the time of one request: waits `seconds` for a client, and longer only while bytes flow.

    A client that sends too slowly is RequestTimeout, one that reads too slowly is TimeoutError. However fast bytes
    flow, other connections get their turn.
    """

    def __init__(self, sock: socket.socket, seconds: float, record: RequestRecord | None = None) -> None:
        self.sock, self.seconds, self.left, self.record = sock, seconds, seconds, record
        self.this_turn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next bytes, none at the end."""
        try:
            started = self.start()
            data = self.sock.recv(size, flags)
        except TimeoutError as error:
            raise RequestTimeout() from error
        self.count(started, len(data))
        return data

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            started = self.start()
            # To a client that reads as fast as we write, one call could send any number of bytes.
            sent = self.sock.send(view[:BYTES_A_TURN])
            self.count(started, sent)
            view = view[sent:]

    def start(self) -> float:
        """Let the next call take as long as is left, and return the time."""
        self.sock.settimeout(max(self.left, 0.001))
        return time.monotonic()

    def count(self, started: float, size: int) -> None:
        """Take the time that the call waited, and give what its bytes are worth."""
        self.left = min(self.seconds, self.left - (time.monotonic() - started) + size / SLOWEST_CLIENT)
        self.this_turn += size
        if self.this_turn >= BYTES_A_TURN:
            self.this_turn = 0
            gevent.sleep(0)


def end_gently(sock: socket.socket, most: int) -> None:
    """Send the end, and throw away up to `most` bytes that the client still sends, for a few seconds.

    A connection that is closed with bytes unread is reset, and the reset overtakes the answer (RFC 9112, section 9.6).
    """
    with contextlib.suppress(OSError), gevent.Timeout(LINGER_SECONDS, False):
        sock.settimeout(None)
        sock.shutdown(socket.SHUT_WR)
        while most > 0:
            # The kernel drops the bytes without a copy (tcp(7)).
            size = len(sock.recv(min(most, STEP), socket.MSG_TRUNC))
            if not size:
                return
            most -= size
            gevent.sleep(0)


def is_readable(sock: socket.socket) -> bool:
    """Return whether bytes, or the end, of what a client sends are there."""
    poller = poll()
    poller.register(sock.fileno(), 1)  # POLLIN
    return bool(poller.poll(0))


def stop_reading(sock: socket.socket) -> None:
    """Let whoever reads from the socket find its end; gevent's own shutdown would raise there."""
    plain = PlainSocket(fileno=sock.fileno())
    try:
        plain.shutdown(socket.SHUT_RD)
    finally:
        plain.detach()
