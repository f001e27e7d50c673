"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a request is sent to its cluster once, and a repeat gets
the first answer again. Body and answer are read into memory, up to 1 MiB each.
"""

import io
import itertools
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from django.http import HttpRequest

from accounts.idempotency import REPLAYED, fingerprint_of, sha256, valid_key
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import (
    BadUpstreamAnswer,
    CircuitOpen,
    ClusterInMaintenance,
    RequestTooLarge,
    ServiceUnavailable,
)
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.routes import MIB, Route
from proxy.connection.headers import response_headers
from proxy.connection.upstream import TruncatedAnswer
from proxy.forwarding.forwarder import Forwarded, body_of
from proxy.forwarding.idempotency_records import NOT_STORED, STORED, UNKNOWN, FirstAnswer, IdempotencyRecord

BODY_LIMIT = ANSWER_LIMIT = MIB
REFUSED_UNSENT = (CircuitOpen, ClusterInMaintenance, ServiceUnavailable, RequestTooLarge)


class AnswerHead(Protocol):
    """The head of an answer."""

    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...


class KeyOwner(Protocol):
    """The owner of idempotency keys: each user and each API key has its own."""

    @property
    def subject(self) -> str: ...


def idempotency_key(request: HttpRequest, route: Route) -> str | None:
    """Return the key, or None if it is absent or the route ignores it; raise WrongFormat."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    return None if key is None or not route.idempotency_key else valid_key(key)


def answer_once(
    request: HttpRequest, route: Route, caller: KeyOwner, *, key: str, target: str, send: Callable[[], Forwarded]
) -> tuple[AnswerHead, Iterable[bytes]]:
    """Send the request and return the answer; if a request with this key was sent before, return its stored answer.

    Raises what `send` raises; RequestTooLarge or BadRequest for the body; InvalidRequest if the key was used for
    another request; RequestInProgress if its answer is pending or was not stored; ServiceUnavailable without Redis.
    """
    body = b"".join(body_of(request, min(route.body_limit, BODY_LIMIT)).pieces())
    record = IdempotencyRecord(
        keys.idempotent_request(caller.subject, sha256(key.encode())), fingerprint_of(request, target, body)
    )
    earlier = record.claim(lease_seconds(route))
    record_of(request).passed(Step.IDEMPOTENCY)
    if earlier:
        return replayed(earlier)
    restore_body(request, body)
    try:
        forwarded = send()
    except BaseException as error:
        if is_certainly_unsent(error):
            record.release()
        else:
            record.finish(UNKNOWN)
        raise
    return keep(record, forwarded, request.META.get("gunicorn.socket"))


def lease_seconds(route: Route) -> float:
    """Return about how long the first request may take: until then a repeat is refused as in progress, not unknown."""
    times = route.timeouts
    return route.attempts * times.connect + times.read + times.total


def restore_body(request: HttpRequest, body: bytes) -> None:
    """Make the body, which has been read, readable again, now with a known length."""
    request.META["wsgi.input"] = io.BytesIO(body)
    request.META["CONTENT_LENGTH"] = str(len(body))
    request.META.pop("HTTP_TRANSFER_ENCODING", None)


def is_certainly_unsent(error: BaseException) -> bool:
    """Return whether no byte of the request reached the cluster."""
    return getattr(error, "nothing_sent", False) or isinstance(error, REFUSED_UNSENT)


def replayed(earlier: FirstAnswer) -> tuple[AnswerHead, Iterable[bytes]]:
    """Return the first answer, marked as replayed."""
    fields = [(name, value) for name, value in earlier.headers if name.lower() != REPLAYED.lower()]
    answer = FirstAnswer(earlier.status, earlier.reason, (*fields, (REPLAYED, "true")), earlier.body)
    return answer, [answer.body]


def keep(
    record: IdempotencyRecord, forwarded: Forwarded, client: socket.socket | None
) -> tuple[AnswerHead, Iterable[bytes]]:
    """Store the answer and return it; one that is too large, or an event stream, is streamed and not stored."""
    answer = forwarded.answer
    try:
        pieces, whole = read_whole(forwarded)
    except BaseException as error:
        forwarded.body.close()
        record.finish(UNKNOWN)
        if isinstance(error, TruncatedAnswer):
            close_without_reset(client)
            raise BadUpstreamAnswer(details={"reason": "the answer broke off"}) from error
        raise
    if not whole:
        record.finish(NOT_STORED, str(answer.status))
        forwarded.body.pieces = itertools.chain(pieces, forwarded.body.pieces)
        return answer, forwarded.body
    stored = FirstAnswer(answer.status, answer.reason, tuple(response_headers(answer.headers)), b"".join(pieces))
    record.finish(STORED, stored.sealed())
    return stored, [stored.body]


def read_whole(forwarded: Forwarded) -> tuple[list[bytes], bool]:
    """Read up to 1 MiB of the body; return the pieces, and whether they are the whole body; raise TruncatedAnswer."""
    pieces: list[bytes] = []
    size = 0
    if "text/event-stream" in ",".join(forwarded.answer.fields("content-type")).lower():
        return pieces, False
    for piece in forwarded.body:
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_LIMIT:
            return pieces, False
    return pieces, True


def close_without_reset(client: socket.socket | None) -> None:
    """Undo `close_with_reset`: the client has received nothing yet, so it gets an error instead."""
    if client is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
