"""One structured line for each request, written when its last byte has been handed over; the metrics count it, too."""

import time
from collections.abc import Callable, Iterator
from typing import cast

import structlog
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.record import RequestRecord, record_of
from lucid_gateway.server import request_metrics

logger = structlog.get_logger("access")


class AccessLogMiddleware:
    """The outermost middleware. Query strings, headers and bodies are never logged."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        record = record_of(request)
        request_metrics.begin()
        response = self.get_response(request)
        if isinstance(response, StreamingHttpResponse):
            response.streaming_content = LoggedBody(request, response, record)
        else:
            if request.method == "HEAD":
                leave_out_body(response)
            size = len(response.content) if hasattr(response, "content") else 0
            end(request, response, record, size, "complete")
        return response


def leave_out_body(response: HttpResponseBase) -> None:
    """Keep of an answer what HEAD asks for; gunicorn warns of each body that it has to drop."""
    if hasattr(response, "content"):
        response.headers.setdefault("Content-Length", str(len(response.content)))
        response.content = b""


class LoggedBody:
    """A streamed body that counts its bytes and writes the line when it ends, breaks or is given up."""

    def __init__(self, request: HttpRequest, response: StreamingHttpResponse, record: RequestRecord) -> None:
        self.request, self.response, self.record = request, response, record
        self.source = cast(Iterator[bytes], response.streaming_content)
        self.chunks = iter(self.source)
        self.size = 0
        self.outcome = "client_left"
        self.written = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self.chunks)
        except StopIteration:
            self.outcome = "complete"
            raise
        except ConnectionAbortedError:  # the client's, noticed while the cluster was waited for
            raise
        except Exception:
            self.outcome = "upstream_cut"
            raise
        self.size += len(chunk)
        return chunk

    def close(self) -> None:
        """Called by the server in every case, after the body or instead of it."""
        if self.written:
            return
        self.written = True
        if self.request.method == "HEAD" or not self.response.status_code >= 200:
            self.outcome = "complete"
        if hasattr(self.source, "close"):
            self.source.close()
        end(self.request, self.response, self.record, self.size, self.outcome)


def end(request: HttpRequest, response: HttpResponseBase, record: RequestRecord, size: int, outcome: str) -> None:
    """Count the request and write its line; `size` is bytes of the answer's body."""
    seconds = time.perf_counter() - record.started
    request_metrics.count(request, record, response.status_code, seconds, outcome)
    match = request.resolver_match
    logger.info(
        "request",
        request_id=record.request_id or None,
        method=request.method,
        path=request.path_info,
        route=match.route if match else None,
        status=response.status_code,
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
    )
