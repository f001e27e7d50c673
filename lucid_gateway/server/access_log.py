"""One structured line for each request, written when its last byte was sent; the metrics count it then, too."""

import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import structlog
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.record import Outcome, RequestRecord, record_of
from lucid_gateway.policy.reasons import Step
from lucid_gateway.server import request_metrics
from lucid_gateway.server.kept_requests import kept_requests
from lucid_gateway.server.samples import count_request

logger = structlog.get_logger("access")
COMPLETE, CLIENT_LEFT, UPSTREAM_CUT = "complete", "client_left", "upstream_cut"
# Outcome of an answer that did not reach the client completely -> the reason.
CUT = {CLIENT_LEFT: "client_left", UPSTREAM_CUT: "instance_answer_cut"}


class AccessLogMiddleware:
    """The outermost middleware. Query strings, headers and bodies are never logged."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        record = record_of(request)
        record.method = request.method or ""
        request_metrics.begin()
        response = self.get_response(request)
        record.path = record.path or request.path_info
        if isinstance(response, StreamingHttpResponse):
            content = cast(Iterator[bytes], response.streaming_content)
            response.streaming_content = LoggedBody(content, record, response.status_code)
        else:
            if record.method == "HEAD":
                drop_body(response)
            size = len(response.content) if hasattr(response, "content") else 0
            end(record, response.status_code, size, COMPLETE)
        return response

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        """Note the route; Django calls this after it has found the view."""
        record = record_of(request)
        record.route = request.resolver_match.route if request.resolver_match else None
        record.passed(Step.ROUTE)


def drop_body(response: HttpResponseBase) -> None:
    """Remove the body from an answer to HEAD; gunicorn would log a warning for each body that it drops itself."""
    if hasattr(response, "content"):
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""


class LoggedBody:
    """A streamed body that counts its bytes, and writes the log line when it ends, fails or is abandoned."""

    def __init__(self, content: Iterator[bytes], record: RequestRecord, status: int) -> None:
        self.chunks, self.record, self.status = content, record, status
        self.size = 0
        self.outcome = CLIENT_LEFT
        self.written = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self.chunks)
        except StopIteration:
            self.outcome = COMPLETE
            raise
        except ConnectionAbortedError:  # the client closed the connection while the gateway waited for the cluster
            raise
        except Exception:
            self.outcome = UPSTREAM_CUT
            raise
        self.size += len(chunk)
        return chunk

    def close(self) -> None:
        """Write the log line; the server calls this in every case, after the body or instead of it."""
        if self.written:
            return
        self.written = True
        if self.record.method == "HEAD" or not self.status >= 200:
            self.outcome = COMPLETE
        # Django's iterator refers to the response, which refers to this body: only garbage collection could free them.
        self.chunks = iter(())
        end(self.record, self.status, self.size, self.outcome)


def end(record: RequestRecord, status: int, size: int, outcome: str) -> None:
    """Count the request and write its log line; `size` is the length of the answer's body in bytes."""
    if outcome in CUT:
        record.ended(CUT[outcome], Outcome.FAILED)
    elif record.reason is None:
        record.passed(Step.ANSWER)
    seconds = time.perf_counter() - record.started
    request_metrics.end(record, status, seconds, outcome)
    kept_requests.consider(record, status, size, CUT.get(outcome))
    count_request(record, status, seconds, cut=outcome == UPSTREAM_CUT)
    logger.info(
        "request",
        request_id=record.request_id or None,
        method=record.method,
        path=record.path,
        route=record.route,
        status=status,
        duration_ms=round(seconds * 1000, 2),
        response_bytes=size,
        outcome=outcome,
        client=record.client_address or None,
        user_id=record.caller.user_id if record.caller else None,
        trace_id=record.traceparent[3:35] or None,
        cluster=record.cluster,
        instance=record.attempts[-1].instance if record.attempts else None,
        attempts=len(record.attempts) if record.cluster else None,
        cache=record.cache,
        upstream_status=record.upstream_status,
        upstream_ms=record.upstream_ms,
        error_code=record.error_code,
        reason=record.reason,
        steps=record.logged_steps() if record.reason else None,
        plane=record.plane,
    )
