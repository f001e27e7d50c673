"""The body of the gateway's own small endpoints: limited in size, and read right when it has no length."""

import io
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.policy.errors import BadRequest, GatewayError, RequestTimeout, RequestTooLarge

MAX_SMALL_BODY = 1024 * 1024


class BodyLimitMiddleware:
    """Refuses bodies over 1 MiB, and gives Django the chunked ones, which it would take for empty (its ticket 35838).

    Views that stream their body say so with a class attribute `streams_body = True` and are left alone.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponseBase | None:
        """Return the refusal, or None to go on to the view."""
        if getattr(getattr(view, "view_class", getattr(view, "cls", None)), "streams_body", False):
            return None
        if declared_length(request) > MAX_SMALL_BODY:
            return error_response(request, too_large())
        if "HTTP_TRANSFER_ENCODING" not in request.META:
            return None
        if hasattr(view, "cls"):  # DRF's, which asks for the length when the caller has been let in
            request.META["CONTENT_LENGTH"] = LengthOnDemand(request)
            return None
        try:
            buffer_chunked(request)
        except GatewayError as error:
            return error_response(request, error)
        return None


class LengthOnDemand:
    """The CONTENT_LENGTH of a chunked body: the body is read when its length is asked for, not before."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    def __int__(self) -> int:
        """Return the bytes; raise what `buffer_chunked` raises."""
        return buffer_chunked(self.request)


def buffer_chunked(request: HttpRequest) -> int:
    """Read the chunked body into memory, hand it to Django and return its length in bytes.

    Raises RequestTooLarge over the limit, RequestTimeout, and BadRequest for malformed chunks.
    """
    try:
        body = request.META["wsgi.input"].read(MAX_SMALL_BODY + 1)
    except RequestTimeout:
        raise
    except Exception as error:  # gunicorn's parser errors have no narrower class in common
        raise BadRequest("Malformed request body") from error
    if len(body) > MAX_SMALL_BODY:
        raise too_large()
    request.META["CONTENT_LENGTH"] = str(len(body))
    request._stream = io.BytesIO(body)
    return len(body)


def declared_length(request: HttpRequest) -> int:
    """Return Content-Length in bytes, 0 if there is none; the server has checked that it is a number."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def too_large(limit: int = MAX_SMALL_BODY) -> RequestTooLarge:
    """Return the error for a body over `limit` bytes."""
    return RequestTooLarge(details={"limit_bytes": limit})
