"""Either end of a connection, read byte by byte and strictly: nothing is mended that a gateway must not send."""

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE_SECONDS = 30


class Ended(Exception):
    """The other side closed where a message could have begun."""


class Cut(Exception):
    """The other side closed in the middle of a message; `message` is what came of it."""

    def __init__(self, message: "Message") -> None:
        super().__init__(message.start)
        self.message = message


@dataclass
class Message:
    """A request or an answer: start line, fields in order as they were written, body without its framing."""

    start: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    connection: int = 0

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def reason(self) -> str:
        return self.start.split(" ", 2)[2]

    @property
    def code(self) -> str:
        """Return the number of the gateway's error, such as 5003."""
        assert self.all("content-type") == ["application/json"], self
        code: str = json.loads(self.body)["error"]["code"]
        return code.removeprefix("LUCID_ERR_")

    def all(self, name: str) -> list[str]:
        """Return the values of every field of that name."""
        return [value for field_name, value in self.fields if field_name.lower() == name.lower()]

    def framing(self) -> list[tuple[str, str]]:
        """Return the fields that say where the body ends."""
        return [item for item in self.fields if item[0].lower() in ("content-length", "transfer-encoding")]

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_SECONDS)
        self.buffer = b""
        self.was_reset = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def more(self) -> bool:
        """Receive something; return False at the end."""
        try:
            data = self.sock.recv(256 * 1024)
        except ConnectionResetError:
            self.was_reset = True
            return False
        self.buffer += data
        return bool(data)

    def has_ended(self) -> bool:
        """Wait until the other side closes; return whether it did so without another byte."""
        while not self.buffer:
            if not self.more():
                return True
        return False

    def read_head(self) -> Message:
        """Read up to the empty line; raise Ended or Cut."""
        message = Message()
        try:
            lines = self.read_until(b"\r\n\r\n", message).decode("latin-1").split("\r\n")
        except Cut:
            if self.buffer:
                raise
            raise Ended from None
        message.start = lines[0]
        message.fields = [parse_field(line) for line in lines[1:]]
        return message

    def read_answer(self, method: str = "GET") -> Message:
        """Read an answer to its end, which the connection's end is only without framing; raise Ended or Cut."""
        message = self.read_head()
        if method == "HEAD" or message.status in (204, 304) or message.status < 200:
            return message
        if message.framing():
            return self.read_body(message)
        while self.more():
            pass
        message.body, self.buffer = self.buffer, b""
        if self.was_reset:
            raise Cut(message)
        return message

    def read_body(self, message: Message) -> Message:
        """Read the body that the fields announce; raise Cut."""
        framing = dict(message.framing())
        assert len(framing) == len(message.framing()) <= 1, f"unclear framing: {message.framing()}"
        for name, value in framing.items():
            if name.lower() == "content-length":
                self.read_exactly(int(value), message)
            else:
                assert value == "chunked"
                self.read_chunks(message)
        return message

    def read_chunks(self, message: Message) -> None:
        while size := int(self.read_until(b"\r\n", message), 16):
            self.read_exactly(size, message)
            assert self.read_until(b"\r\n", message) == b""
        while line := self.read_until(b"\r\n", message):
            message.trailers.append(parse_field(line.decode()))

    def read_until(self, end: bytes, message: Message) -> bytes:
        while end not in self.buffer:
            if not self.more():
                raise Cut(message)
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def read_exactly(self, size: int, message: Message) -> None:
        while len(self.buffer) < size:
            if not self.more():
                message.body += self.buffer
                raise Cut(message)
        message.body += self.buffer[:size]
        self.buffer = self.buffer[size:]


def parse_field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    assert colon, f"not a field: {line!r}"
    return name, value.strip(" ")


class GatewayClient(Wire):
    """A connection to the gateway, of a signed-in user; requests are written as told."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(socket.create_connection(("127.0.0.1", port)))
        self.port, self.token = port, token

    def head(self, method: str, path: str, *fields: str, version: str = "1.1") -> bytes:
        """Return a request's head, `path` below /api/v1, with Host and Authorization unless `fields` has them."""
        lines = [f"{method} /api/v1{path} HTTP/{version}", *fields]
        names = {line.partition(":")[0].lower() for line in fields}
        if "host" not in names:
            lines.append(f"Host: 127.0.0.1:{self.port}")
        if self.token and "authorization" not in names:
            lines.append(f"Authorization: Bearer {self.token}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def ask(self, method: str, path: str, *fields: str, body: bytes | None = None, version: str = "1.1") -> Message:
        """Send a request, a body with its Content-Length unless `fields` frames it, and return the answer."""
        framed = any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in fields)
        if body is not None and not framed:
            fields = (*fields, f"Content-Length: {len(body)}")
        self.send(self.head(method, path, *fields, version=version) + (body or b""))
        return self.read_answer(method)


Ask = Callable[..., Message]
Connect = Callable[..., GatewayClient]
