"""One exchange with an instance: send the request and read the head of the answer."""

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
    attempt_record: AttemptRecord | None = None,
) -> Answer:
    """Send a request and return the head of its answer, even if the instance answers before it has read all of it.

    `body` already has the framing that `head` announces. Waiting for the answer may take `time_left` seconds in all, or
    the total timeout if that is None. Timings go into `attempt_record`. Raises NoAnswer, BadUpstreamAnswer,
    UpstreamTimeout, or ClientGone when `client` disconnects.
    """
    started = time.perf_counter()
    connection.start(method, timeouts, time_left=time_left, client=client)
    try:
        connection.send(head)
        for piece in body:
            connection.send(piece)
    except OSError:
        # The instance stopped reading, but may have answered first. One message too many keeps this connection from
        # being reused.
        connection.answer.messages += 1
    sent = time.perf_counter()
    answer = connection.read_head()
    if attempt_record is not None:
        attempt_record.connect_ms = None if connection.reused else connection.connect_ms
        attempt_record.send_ms = round((sent - started) * 1000, 2)
        attempt_record.first_byte_ms = round((connection.first_byte_at - started) * 1000, 2)
    return answer
