"""The forwarder: sends a client's request to an instance of its cluster and streams the answer back."""

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from django.conf import settings
from django.http import HttpRequest

from lucid_gateway.kernel.record import AttemptRecord, Outcome, RequestRecord, record_of
from lucid_gateway.policy.errors import BadRequest, ClientLeft, GatewayError, RequestTooLarge
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.routes import Route
from proxy.choosing.balancer import choose, no_instance_error
from proxy.choosing.bulkhead import Bulkhead, bulkhead_of
from proxy.choosing.closures import refuse_if_closed
from proxy.choosing.instances import Attempt, InstanceState
from proxy.choosing.retries import budget_of, is_repeatable, may_try_another_instance
from proxy.clusters import Cluster, Instance
from proxy.connection.exchange import exchange, head_of
from proxy.connection.headers import Identity, request_headers
from proxy.connection.pool import MAX_IDLE_SECONDS, SAFE_IDLE_SECONDS, Pool, pool_for
from proxy.connection.signature import signature
from proxy.connection.upstream import Answer, ClientGone, Connection, NoAnswer, TruncatedAnswer

READ_SIZE = 128 * 1024


class BodySource(Protocol):
    """The part of `wsgi.input` that is used here."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class RequestBody:
    """The client's body, which can be read once and is never in memory as a whole; `length` is None if it is chunked.

    Both `length` and `limit` are in bytes.
    """

    source: BodySource
    length: int | None
    limit: int

    def framing(self) -> tuple[str, str] | None:
        """Return the framing field, or None for a request without a body."""
        if self.length is None:
            return "transfer-encoding", "chunked"
        return ("content-length", str(self.length)) if self.length else None

    def is_empty(self) -> bool:
        return self.length == 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the body; raise BadRequest if the client stops early, RequestTooLarge over the limit."""
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

    def framed(self) -> Iterator[bytes]:
        """Yield the body in the framing that the head announces; raise what `pieces` raises."""
        if self.length is not None:
            yield from self.pieces()
            return
        for piece in self.pieces():
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    def read(self, size: int) -> bytes:
        """Return the next bytes; errors of the server (invalid chunks, a lost client) become BadRequest."""
        try:
            return self.source.read(size)
        except GatewayError:
            raise  # a limit of the gateway, such as the bandwidth
        except Exception as error:
            raise BadRequest("Malformed request body") from error


def body_of(request: HttpRequest, limit: int) -> RequestBody:
    """Return the request's body, unread; raise RequestTooLarge if its announced length is over `limit` bytes."""
    chunked = "HTTP_TRANSFER_ENCODING" in request.META
    length = None if chunked else int(request.META.get("CONTENT_LENGTH") or 0)
    if length is not None and length > limit:
        raise RequestTooLarge(details={"limit_bytes": limit})
    return RequestBody(request.META["wsgi.input"], length, limit)


class AnswerBody:
    """The body of an answer on its way to the client; closing it at any point frees the connection."""

    def __init__(self, connection: Connection, sending: "Sending", attempt: Attempt) -> None:
        self.connection, self.sending, self.attempt = connection, sending, attempt
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
        except TruncatedAnswer:
            self.attempt.failed()
            close_with_reset(self.sending.request.META.get("gunicorn.socket"))
            raise

    def close(self) -> None:
        """Return the connection to the pool (which closes it unless it is reusable) and leave the bulkhead."""
        if not self.closed:
            self.closed = True
            pool_for(self.attempt.state.instance).give_back(self.connection)
            self.attempt.end()
            self.sending.bulkhead.leave()

    # If the answer is dropped before the server closes it, its place in the bulkhead must still be freed.
    __del__ = close


def close_with_reset(client: socket.socket | None) -> None:
    """Make the client's connection end with a reset: an HTTP/1.0 client cannot detect a truncated answer otherwise."""
    if client is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Forwarded:
    """A cluster's answer: its head, and its body as a stream."""

    answer: Answer
    body: AnswerBody


def forward(
    request: HttpRequest,
    route: Route,
    cluster: Cluster,
    *,
    caller: Identity,
    target: str,
    watch_client: bool = True,
) -> Forwarded:
    """Send the request to an instance of the cluster and return its answer, with the body unread.

    Raises ClientLeft if `watch_client` and the client disconnects; ClusterInMaintenance, CircuitOpen or
    ServiceUnavailable if no instance is available; RequestTooLarge or BadRequest for the client's body; and
    UpstreamUnreachable, UpstreamTimeout or BadUpstreamAnswer.
    """
    record = record_of(request)
    record.cluster = cluster.name
    refuse_if_closed(cluster.name)
    record.passed(Step.MAINTENANCE)
    body = body_of(request, route.body_limit)
    bulkhead = bulkhead_of(cluster.name)
    bulkhead.enter()
    record.passed(Step.BULKHEAD)
    try:
        client = request.META.get("gunicorn.socket") if watch_client else None
        return Sending(request, route, cluster, caller, target, body, bulkhead, client).run()
    except BaseException:
        bulkhead.leave()
        raise


@dataclass
class Sending:
    """One request being forwarded: the instances tried so far, and the rest of its total timeout in seconds."""

    request: HttpRequest
    route: Route
    cluster: Cluster
    caller: Identity
    target: str
    body: RequestBody
    bulkhead: Bulkhead
    client: socket.socket | None
    started: float = field(default_factory=time.perf_counter)
    tried: list[InstanceState] = field(default_factory=list)
    time_left: float | None = None

    @property
    def record(self) -> RequestRecord:
        return record_of(self.request)

    @property
    def method(self) -> str:
        return self.request.method or ""

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again if the connection ends without an answer."""
        return is_repeatable(self.method, has_body=not self.body.is_empty())

    def run(self) -> Forwarded:
        """Try one instance after another, as long as the retry rule, the budget and the route allow it."""
        budget = budget_of(self.cluster.name)
        budget.earn()
        failure: GatewayError | None = None
        while len(self.record.attempts) < self.route.attempts:
            state = choose(self.cluster, self.tried)
            if state is None or (failure is not None and not budget.spend()):
                break
            self.tried.append(state)
            attempt = state.begin()
            if attempt is None:
                continue
            try:
                return self.try_instance(attempt)
            except GatewayError as error:
                failure = error
                if not may_try_another_instance(error, repeatable=self.repeatable):
                    break
        raise failure or no_instance_error(self.cluster)

    def try_instance(self, attempt: Attempt) -> Forwarded:
        """Send the request to one instance, and report the outcome to its breaker and to the record."""
        attempt_record = AttemptRecord(attempt.state.instance.url)
        self.record.attempts.append(attempt_record)
        with attempt:
            try:
                connection, answer = self.exchange_on(pool_for(attempt.state.instance))
            except GatewayError as error:
                attempt_record.outcome = error.reason
                self.record.ended(error.reason, Outcome.FAILED)
                raise
            attempt.answered(answer.status)
            self.record.passed(Step.ATTEMPT)
            attempt_record.outcome = "answered"
            self.record.upstream_status = answer.status
            self.record.upstream_ms = round((time.perf_counter() - self.started) * 1000, 2)
            if "text/event-stream" in ",".join(answer.fields("content-type")).lower():
                connection.time_left = None
            return Forwarded(answer, AnswerBody(connection, self, attempt))

    def exchange_on(self, pool: Pool, *, fresh: bool = False) -> tuple[Connection, Answer]:
        """Send the request and read the head of the answer; repeat it once on a fresh connection if that is allowed."""
        idle_seconds = MAX_IDLE_SECONDS if self.repeatable else SAFE_IDLE_SECONDS
        connection = pool.take(self.route.timeouts, fresh=fresh, idle_seconds=idle_seconds)
        try:
            with connection:
                return connection, self.send_and_read(connection)
        except NoAnswer:
            if fresh or not self.repeatable or not self.may_retry_on_fresh_connection(connection):
                raise
        return self.exchange_on(pool, fresh=True)

    def may_retry_on_fresh_connection(self, connection: Connection) -> bool:
        """Return whether the same instance is tried again: it may have closed the idle connection just before its use,
        and the only instance of a cluster may be a load balancer with several servers behind it.
        """
        return connection.reused or (len(self.cluster.instances) == 1 and budget_of(self.cluster.name).spend())

    def send_and_read(self, connection: Connection) -> Answer:
        """Run the exchange and update `time_left`; raise ClientLeft if the client disconnects."""
        head = request_head(self.request, self.caller, connection.instance, self.target, self.body)
        try:
            return exchange(
                connection, self.method, head, self.body.framed(), timeouts=self.route.timeouts,
                time_left=self.time_left, client=self.client, attempt_record=self.record.attempts[-1],
            )  # fmt: skip
        except ClientGone as error:
            raise ClientLeft() from error
        finally:
            self.time_left = connection.time_left


def request_head(request: HttpRequest, caller: Identity, instance: Instance, target: str, body: RequestBody) -> bytes:
    """Return the request line and header fields, with at most one framing field, signed if a secret is set."""
    fields = request_headers(request, caller, instance)
    if secret := settings.ENV.IDENTITY_SIGNING_SECRET:
        fields.append(("x-gateway-signature", signature(secret, request.method or "", target, dict(fields))))
    if framing := body.framing():
        fields.append(framing)
    elif request.method in ("POST", "PUT", "PATCH"):
        fields.append(("content-length", "0"))
    return head_of(request.method or "", target, fields)
