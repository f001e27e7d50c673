"""The forwarder: one client request becomes exactly one upstream request, its answer flows back as it comes."""

import itertools
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from django.http import HttpRequest

from lucid_gateway.errors import BadRequest, GatewayError, RequestTooLarge, UpstreamUnreachable
from proxy.clusters import Cluster, Instance
from proxy.headers import Identity, request_headers
from proxy.pool import Pool, pool_for
from proxy.routes import Route
from proxy.upstream import Answer, AnswerCut, Connection, NoAnswer

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
READ_SIZE = 128 * 1024


class BodySource(Protocol):
    """wsgi.input."""

    def read(self, size: int, /) -> bytes: ...


@dataclass
class Exchange:
    """What became of a request at its cluster; the access log reads it."""

    cluster: str
    status: int | None = None
    milliseconds: float | None = None


@dataclass(frozen=True)
class RequestBody:
    """The client's body: `length` in bytes, None when it comes in chunks; read once, never held whole."""

    source: BodySource
    length: int | None
    limit: int

    def framing(self) -> tuple[str, str] | None:
        """Return the one framing field; none for a request without a body."""
        if self.length is None:
            return "transfer-encoding", "chunked"
        return ("content-length", str(self.length)) if self.length else None

    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return self.length == 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the body; raise BadRequest when the client breaks off, RequestTooLarge over the limit."""
        done = 0
        while self.length is None or done < self.length:
            wanted = READ_SIZE if self.length is None else min(READ_SIZE, self.length - done)
            piece = self.read(wanted)
            done += len(piece)
            if not piece:
                if self.length is None:
                    return
                raise BadRequest("The body is shorter than announced")
            if done > self.limit:
                raise RequestTooLarge(details={"limit_bytes": self.limit})
            yield piece

    def read(self, size: int) -> bytes:
        """Return the next bytes; the server's own errors (bad chunks, a lost client) become BadRequest."""
        try:
            return self.source.read(size)
        except GatewayError:
            raise  # a limit on what is read
        except Exception as error:
            raise BadRequest("Malformed request body") from error


def body_of(request: HttpRequest, limit: int) -> RequestBody:
    """Return the request's body; raise RequestTooLarge as soon as its announced length is over `limit` bytes."""
    chunked = "HTTP_TRANSFER_ENCODING" in request.META
    length = None if chunked else int(request.META.get("CONTENT_LENGTH") or 0)
    if length is not None and length > limit:
        raise RequestTooLarge(details={"limit_bytes": limit})
    return RequestBody(request.META["wsgi.input"], length, limit)


class AnswerBody:
    """The body of an answer on its way to the client; closing it frees the connection, whole or not."""

    def __init__(self, connection: Connection, pool: Pool, client: socket.socket | None) -> None:
        self.connection, self.pool, self.client = connection, pool, client
        self.pieces = connection.read_body()
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self.pieces)
        except StopIteration:
            self.close()
            raise
        except AnswerCut:
            reset_at_close(self.client)
            raise

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        if not self.closed:
            self.closed = True
            self.pool.give_back(self.connection)


def reset_at_close(client: socket.socket | None) -> None:
    """Let the client's connection end with a reset: nothing else tells an HTTP/1.0 client of a cut answer."""
    if client is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Forwarded:
    """A cluster's answer: its head, and its body still flowing."""

    answer: Answer
    body: AnswerBody


@cache
def rotation(cluster: Cluster) -> "itertools.count[int]":
    """Return the counter that spreads this process's requests over the cluster's instances."""
    return itertools.count()


def candidates(cluster: Cluster, method: str) -> list[tuple[Instance, bool]]:
    """Return (instance, fresh connection?) in the order to try: each once, and a second try for safe methods."""
    offset = next(rotation(cluster)) % len(cluster.instances)
    ordered = [*cluster.instances[offset:], *cluster.instances[:offset]]
    again = [(ordered[0], True)] if method in SAFE_METHODS and len(ordered) == 1 else []
    return [*((instance, False) for instance in ordered), *again]


def forward(
    request: HttpRequest, route: Route, cluster: Cluster, *, caller: Identity, target: str, exchange: Exchange
) -> Forwarded:
    """Send the request to an instance of the cluster and return its answer, the body unread.

    Another instance is tried when nothing was sent, or for safe methods when no byte of an answer came (RFC 9110,
    section 9.2.2). Raises UpstreamUnreachable, UpstreamTimeout, BadUpstreamAnswer, RequestTooLarge or BadRequest.
    """
    method = request.method or ""
    body = body_of(request, route.body_limit)
    failure: GatewayError = UpstreamUnreachable()
    started = time.perf_counter()
    unreachable: set[Instance] = set()
    for instance, fresh in candidates(cluster, method):
        if instance in unreachable:
            continue
        pool = pool_for(instance)
        head = request_head(request, caller, instance, target, body)
        try:
            connection = pool.take(route.timeouts, fresh=fresh)
        except GatewayError as error:
            failure = error
            unreachable.add(instance)
            continue
        try:
            with connection:
                answer = send_and_read(connection, method, route, head, body)
        except NoAnswer as error:
            failure = error
            if method in SAFE_METHODS and body.is_empty():
                continue
            break
        exchange.status = answer.status
        exchange.milliseconds = round((time.perf_counter() - started) * 1000, 2)
        if "text/event-stream" in ",".join(answer.fields("content-type")).lower():
            connection.time_left = None
        return Forwarded(answer, AnswerBody(connection, pool, request.META.get("gunicorn.socket")))
    raise failure


def request_head(request: HttpRequest, caller: Identity, instance: Instance, target: str, body: RequestBody) -> bytes:
    """Return the request line and header fields, with exactly one framing field or none."""
    fields = request_headers(request, caller, instance)
    if framing := body.framing():
        fields.append(framing)
    elif request.method in ("POST", "PUT", "PATCH"):
        fields.append(("content-length", "0"))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def send_and_read(connection: Connection, method: str, route: Route, head: bytes, body: RequestBody) -> Answer:
    """Send the request and return the head of its answer; an early answer wins over a broken send.

    The total time runs from the end of the sending: an upload takes as long as it flows.
    """
    connection.start(method, route.timeouts)
    try:
        connection.send(head)
        send_body(connection, body)
    except OSError:
        # The cluster stopped reading: it may have said why before it closed.
        connection.answer.messages += 1  # not to be used again
    connection.start_clock()
    return connection.read_head()


def send_body(connection: Connection, body: RequestBody) -> None:
    """Send the body in the framing that the head announced."""
    for piece in body.pieces():
        connection.send(b"%x\r\n%b\r\n" % (len(piece), piece) if body.length is None else piece)
    if body.length is None:
        connection.send(b"0\r\n\r\n")
