"""WebSockets by hand (RFC 6455): the frames, a client, and a cluster's server that echoes."""

import base64
import hashlib
import os
import struct
from itertools import cycle

from testing.http.client import RawClient
from testing.http.cluster import Visit
from testing.http.messages import Ended, Message
from testing.http.wire import Wire

TEXT, BINARY, CLOSE = 1, 2, 8
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SHORT, TWO_BYTES, EIGHT_BYTES = 125, 126, 127


def accept_of(key: str) -> str:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()  # RFC 6455


def masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ other for byte, other in zip(payload, cycle(mask), strict=False))


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """Return a whole message in one frame; a client's has a mask of four bytes."""
    bit = 0x80 if mask else 0
    size = len(payload)
    if size <= SHORT:
        head = struct.pack("!BB", 0x80 | opcode, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, bit | TWO_BYTES, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, bit | EIGHT_BYTES, size)
    return head + mask + (masked(payload, mask) if mask else payload)


def take(wire: Wire, size: int) -> bytes:
    """Return the next bytes; raise Ended if the connection ends before."""
    while len(wire.buffer) < size:
        if not wire.more():
            raise Ended
    taken = bytes(wire.buffer[:size])
    del wire.buffer[:size]
    return taken


def read_frame(wire: Wire) -> tuple[int, bytes]:
    """Return opcode and payload of the next frame; raise Ended if the connection ends."""
    first, second = take(wire, 2)
    size = second & 0x7F
    if size == TWO_BYTES:
        (size,) = struct.unpack("!H", take(wire, 2))
    elif size == EIGHT_BYTES:
        (size,) = struct.unpack("!Q", take(wire, 8))
    mask = take(wire, 4) if second & 0x80 else b""
    payload = take(wire, size)
    return first & 0x0F, masked(payload, mask) if mask else payload


def switched(request: Message) -> bytes:
    """Return the head of the answer that accepts a handshake."""
    accept = accept_of(request.header("Sec-WebSocket-Key") or "")
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nX-User-Id: of the cluster\r\n\r\n"
    ).encode()


def echoing(visit: Visit) -> None:
    """Accept the handshake, and send each message back until the other side ends."""
    visit.send(switched(visit.request))
    while True:
        visit.send(frame(*read_frame(visit)))


class WebSocket(RawClient):
    """A client's connection, on which `open` sends the handshake; `key` is its Sec-WebSocket-Key."""

    def __init__(self, port: int, token: str = "") -> None:
        super().__init__(port, token)
        self.key = base64.b64encode(os.urandom(16)).decode()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a handshake."""
        return (
            "Upgrade: websocket", "Connection: keep-alive, Upgrade", f"Sec-WebSocket-Key: {self.key}",
            "Sec-WebSocket-Version: 13",
        )  # fmt: skip

    def open(self, path: str, *fields: str) -> Message:
        """Send the handshake and return the answer."""
        return self.ask("GET", path, *self.fields, *fields)

    def echo(self, payload: bytes, opcode: int = BINARY) -> bytes:
        """Send a message and return the next one; raise Ended if the tunnel has ended."""
        self.send(frame(opcode, payload, os.urandom(4)))
        return read_frame(self)[1]
