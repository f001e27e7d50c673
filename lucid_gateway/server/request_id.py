"""The id that identifies a request in the gateway, its clusters and the log."""

import re
import uuid
from collections.abc import Callable

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.record import current, record_of

HEADER = "X-Request-ID"
ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,128}")


class RequestIDMiddleware:
    """Gives each request an id, or keeps that of a trusted proxy, and returns it in the answer.

    Runs after TrustedProxyMiddleware, which removes the header unless the peer is trusted.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request_id = given if ACCEPTABLE.fullmatch(given) else str(uuid.uuid4())
        record = record_of(request)
        record.request_id, record.user_agent = request_id, request.META.get("HTTP_USER_AGENT", "")
        previous = current.set(record)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                response = self.get_response(request)
        finally:
            current.reset(previous)
        response[HEADER] = request_id
        return response
