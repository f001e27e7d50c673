"""Large bodies, up and down, over one connection and with as little work in the client as possible."""

import time
from pathlib import Path

from benchmarks.load import Target
from benchmarks.processes import MEBIBYTE
from testing.http.messages import Ended
from testing.http.wire import Wire

PATIENCE_SECONDS = 60


class Broken(Exception):
    """An answer other than 200, or an incomplete body."""


def upload(target: Target, body: Path, *, times: int) -> float:
    """POST the file `times` times in a row; return the throughput in MiB/s."""
    size = body.stat().st_size
    head = target.head("POST", f"Content-Length: {size}", "Content-Type: application/octet-stream")
    began = time.monotonic()
    with Wire(target.connect(PATIENCE_SECONDS)) as wire, body.open("rb") as file:
        for _ in range(times):
            wire.send(head)
            wire.sock.sendfile(file)
            _finish(wire)
    return times * size / MEBIBYTE / (time.monotonic() - began)


def download(target: Target, *, size: int) -> float:
    """GET a body of `size` bytes; return the throughput in MiB/s."""
    began = time.monotonic()
    with Wire(target.connect(PATIENCE_SECONDS)) as wire:
        wire.send(target.head("GET"))
        received = _finish(wire)
    if received != size:
        raise Broken(f"{received} of {size} bytes arrived")
    return size / MEBIBYTE / (time.monotonic() - began)


def _finish(wire: Wire) -> int:
    """Read one answer to its end; return the length of its body."""
    try:
        answer = wire.read_head()
    except Ended:
        raise Broken("the connection ended before an answer") from None
    if answer.status != 200:
        raise Broken(str(answer))
    length = int(answer.header("Content-Length") or 0)
    received = wire.discard(length)
    if received < length:
        raise Broken(f"the body ended after {received} of {length} bytes")
    return received
