"""A client that says exactly what it is told to: bytes over a socket, with nothing mended on the way."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came; `headers` are (lower-case name, value) in order."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the field of that name, None if there is none; it must not be repeated."""
        values = [value for field, value in self.headers if field == name.lower()]
        assert len(values) <= 1, f"{name} is repeated"
        return values[0] if values else None

    def error(self) -> dict[str, Any]:
        """Return the error, after checking that the answer is the envelope and nothing else."""
        assert self.header("Content-Type") == "application/json", self
        body = json.loads(self.body)
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"code", "message", "details", "request_id", "timestamp", "service", "version"}
        assert error["request_id"] == self.header("X-Request-ID")
        return error

    @property
    def code(self) -> str:
        """The number of the error's code, such as 1001."""
        return str(self.error()["code"]).removeprefix("LUCID_ERR_")


class RawConnection:
    """A connection to a server on this machine; a context manager."""

    def __init__(self, port: int, timeout: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.reader = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send the bytes; a server that has closed already is not minded: its answer tells."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self, *, head_only: bool = False) -> RawAnswer:
        """Return the next answer; `head_only` after a HEAD request."""
        status = int(self.reader.readline().split(b" ")[1])
        headers = []
        while (line := self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.strip().lower(), value.strip()))
        body = b"" if head_only or status in (204, 304) else b"".join(self.pieces(dict(headers)))
        return RawAnswer(status, tuple(headers), body)

    def pieces(self, headers: dict[str, str]) -> Iterator[bytes]:
        """Yield the body, by whatever framing it has."""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self.reader.readline(), 16):
                yield self.reader.read(size)
                self.reader.readline()
            self.reader.readline()
        elif "content-length" in headers:
            yield self.reader.read(int(headers["content-length"]))
        else:
            yield self.reader.read()

    def is_closed(self) -> bool:
        """Wait for the server to close, and return whether it did without another byte."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


def request_bytes(method: str, target: str, *fields: str, body: bytes = b"", host: str = "localhost") -> bytes:
    """Return a request with the given `Name: value` fields; a body gets its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(port: int, request: bytes) -> RawAnswer:
    """Send one request on a connection of its own and return the answer."""
    with RawConnection(port) as connection:
        connection.send(request)
        return connection.read()
