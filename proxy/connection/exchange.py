"""One exchange with an instance: the request goes out, and the head of its answer comes back."""

import socket
import time
from collections.abc import Iterable

from lucid_gateway.kernel.record import AttemptRecord
from lucid_gateway.policy.routes import Timeouts
from proxy.connection.upstream import Answer, Connection

Fields = Iterable[tuple[str, str]]


def head_of(method: str, target: str, fields: Fields) -> bytes:
    """Return the request line and the header fields (RFC 9112, sections 3 and 5)."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def exchange(
    connection: Connection,
    method: str,
    head: bytes,
    body: Iterable[bytes] = (),
    *,
    timeouts: Timeouts,
    time_left: float | None = None,
    client: socket.socket | None = None,
    noted: AttemptRecord | None = None,
) -> Answer:
    """Send a request and return the head of its answer; an early answer wins over a broken send.

    `body` is already in the framing that the head announces. The answer comes within `time_left` seconds of waiting for
    it, else within the total time. The times are `noted`. Raises NoAnswer, BadUpstreamAnswer, UpstreamTimeout, or
    ClientGone when the `client` leaves.
    """
    started = time.perf_counter()
    connection.start(method, timeouts, time_left=time_left, client=client)
    try:
        connection.send(head)
        for piece in body:
            connection.send(piece)
    except OSError:
        # The instance stopped reading: it may have said why before it closed. The connection is not to be used again.
        connection.answer.messages += 1
    sent = time.perf_counter()
    answer = connection.read_head()
    if noted is not None:
        noted.connect_ms = None if connection.reused else connection.connect_ms
        noted.send_ms = round((sent - started) * 1000, 2)
        noted.first_byte_ms = round((connection.first_byte_at - started) * 1000, 2)
    return answer
