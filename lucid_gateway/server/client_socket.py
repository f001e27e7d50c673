"""The connection to a client: how long the gateway waits for it, whether data has arrived, and how it ends."""

import contextlib
import socket
import time
from typing import Any

import gevent
from gevent.monkey import get_original

from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.policy.errors import RequestTimeout

# Unpatched, so that no other greenlet can read between `is_readable` and `stop_reading`.
poll, PlainSocket = get_original("select", "poll"), get_original("socket", "socket")

# Bytes per second. The gateway disconnects a client that sends or reads more slowly over CLIENT_TIMEOUT_SECONDS.
MIN_CLIENT_RATE = 1000
# After this many bytes, other connections get a turn: gevent switches only on waits, and fast connections never wait.
# A request needs about ten turns, so more bytes would delay requests noticeably; fewer would cost throughput.
BYTES_PER_TURN = 128 * 1024
STEP = 64 * 1024
LINGER_SECONDS = 5.0


class PatientSocket:
    """The client's socket during one request. It waits `seconds` for the client, and longer only while bytes flow.

    Raises RequestTimeout if the client sends too slowly, and TimeoutError if it reads too slowly. Other connections get
    turns, however fast the bytes flow.
    """

    def __init__(self, sock: socket.socket, seconds: float, record: RequestRecord | None = None) -> None:
        self.sock, self.seconds, self.left, self.record = sock, seconds, seconds, record
        self.this_turn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return the next bytes, or b"" at the end."""
        try:
            started = self.start()
            data = self.sock.recv(size, flags)
        except TimeoutError as error:
            raise RequestTimeout() from error
        self.count(started, len(data))
        return data

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            started = self.start()
            # For a client that reads as fast as the gateway writes, one call could send any number of bytes.
            sent = self.sock.send(view[:BYTES_PER_TURN])
            self.count(started, sent)
            view = view[sent:]

    def start(self) -> float:
        """Give the next call the remaining time as its timeout, and return the current time."""
        self.sock.settimeout(max(self.left, 0.001))
        return time.monotonic()

    def count(self, started: float, size: int) -> None:
        """Subtract the call's duration from the remaining time, and add the time that its bytes earn."""
        self.left = min(self.seconds, self.left - (time.monotonic() - started) + size / MIN_CLIENT_RATE)
        self.this_turn += size
        if self.this_turn >= BYTES_PER_TURN:
            self.this_turn = 0
            gevent.sleep(0)


def end_gently(sock: socket.socket, most: int) -> None:
    """Close the sending side, and discard up to `most` bytes that the client still sends, for up to five seconds.

    Closing a connection with unread bytes resets it, and the reset can overtake the answer (RFC 9112, section 9.6).
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
    """Return whether the client has sent unread bytes or has closed the connection."""
    poller = poll()
    poller.register(sock.fileno(), 1)  # POLLIN
    return bool(poller.poll(0))


def stop_reading(sock: socket.socket) -> None:
    """Let a greenlet that reads from the socket see its end; with gevent's own shutdown, it would get an exception."""
    plain = PlainSocket(fileno=sock.fileno())
    try:
        plain.shutdown(socket.SHUT_RD)
    finally:
        plain.detach()
