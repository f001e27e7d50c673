"""Large bodies, up and down, over one connection and with as little work on this side as possible."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import Target
from benchmarks.processes import MEBIBYTE

PATIENCE_SECONDS = 60


class Broken(Exception):
    """An answer that was not 200, or a body that was not whole."""


def upload(target: Target, body: Path, *, times: int) -> float:
    """POST the file so many times in a row; the throughput in MiB/s."""
    size = body.stat().st_size
    head = _head("POST", target, f"Content-Length: {size}\r\nContent-Type: application/octet-stream\r\n")
    began = time.monotonic()
    with _connect(target) as connection, body.open("rb") as file:
        for _ in range(times):
            connection.sendall(head)
            connection.sendfile(file)
            _finish(connection, bytearray(MEBIBYTE))
    return times * size / MEBIBYTE / (time.monotonic() - began)


def download(target: Target, *, size: int) -> float:
    """GET a body of `size` bytes; the throughput in MiB/s."""
    began = time.monotonic()
    with _connect(target) as connection:
        connection.sendall(_head("GET", target))
        received = _finish(connection, bytearray(MEBIBYTE))
    if received != size:
        raise Broken(f"{received} of {size} bytes arrived")
    return size / MEBIBYTE / (time.monotonic() - began)


def _connect(target: Target) -> socket.socket:
    parts = urlsplit(target.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_SECONDS)


def _head(method: str, target: Target, fields: str = "") -> bytes:
    parts = urlsplit(target.url)
    token = f"Authorization: Bearer {target.token}\r\n" if target.token else ""
    return f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{token}{fields}\r\n".encode()


def _finish(connection: socket.socket, buffer: bytearray) -> int:
    """Read one answer to its end; the length of its body as it was announced and arrived."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65_536)
        if not piece:
            raise Broken("the connection ended before an answer")
        head += piece
    lines, _, start = head.partition(b"\r\n\r\n")
    if lines.split(b" ", 2)[1] != b"200":
        raise Broken(head.decode(errors="replace"))
    fields = dict(line.lower().split(b":", 1) for line in lines.split(b"\r\n")[1:])
    length, received = int(fields[b"content-length"]), len(start)
    while received < length:
        count = connection.recv_into(buffer)
        if not count:
            raise Broken(f"the body ended after {received} of {length} bytes")
        received += count
    return received
