"""A client that sends exactly the bytes it is given, and reads the answers strictly."""

import socket
from collections.abc import Callable

from testing.http.messages import Message
from testing.http.wire import Wire

PATIENCE_SECONDS = 30.0


class RawClient(Wire):
    """A connection to a server on this machine, from the loopback address `source`; `token` is for `head` and `ask`."""

    def __init__(self, port: int, token: str = "", *, timeout: float = PATIENCE_SECONDS, source: str = "") -> None:
        source_address = (source, 0) if source else None
        super().__init__(socket.create_connection(("127.0.0.1", port), timeout, source_address))
        self.port, self.token = port, token

    def send(self, data: bytes) -> None:
        """Send the bytes. A server that has already closed is no error here: what it answered, or did not, is."""
        try:
            super().send(data)
        except (BrokenPipeError, ConnectionResetError):
            return

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
Connect = Callable[..., RawClient]


def request_bytes(method: str, target: str, *fields: str, body: bytes = b"", host: str = "localhost") -> bytes:
    """Return a request with the given `Name: value` fields; a body gets its Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(port: int, request: bytes) -> Message:
    """Send one request on a connection of its own and return the answer."""
    with RawClient(port) as client:
        client.send(request)
        return client.read_answer(request.partition(b" ")[0].decode())
