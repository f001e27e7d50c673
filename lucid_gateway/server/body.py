"""Bodies for the gateway's own small endpoints: limited in size, and readable without a Content-Length."""

import io
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.policy.errors import BadRequest, GatewayError, RequestTimeout, RequestTooLarge

MAX_SMALL_BODY = 1024 * 1024


class BodyLimitMiddleware:
    """Refuses bodies over 1 MiB, and passes chunked bodies to Django, which would treat them as empty (ticket 35838).

    It ignores views with the class attribute `streams_body = True`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponseBase | None:
        """Return an error response, or None to call the view."""
        if getattr(getattr(view, "view_class", getattr(view, "cls", None)), "streams_body", False):
            return None
        if declared_length(request) > MAX_SMALL_BODY:
            return error_response(request, too_large())
        if "HTTP_TRANSFER_ENCODING" not in request.META:
            return None
        if hasattr(view, "cls"):  # DRF reads the length only after it has authenticated the caller
            request.META["CONTENT_LENGTH"] = LengthOnDemand(request)
            return None
        try:
            buffer_chunked(request)
        except GatewayError as error:
            return error_response(request, error)
        return None


class LengthOnDemand:
    """The CONTENT_LENGTH of a chunked body, which is read only when something needs its length."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    def __int__(self) -> int:
        """Return the length in bytes; raise the same errors as `buffer_chunked`."""
        return buffer_chunked(self.request)


def buffer_chunked(request: HttpRequest) -> int:
    """Read the chunked body into memory, pass it to Django and return its length in bytes.

    Raises RequestTooLarge over the limit, RequestTimeout, and BadRequest for malformed chunks.
    """
    try:
        body = request.META["wsgi.input"].read(MAX_SMALL_BODY + 1)
    except RequestTimeout:
        raise
    except Exception as error:  # gunicorn's parser errors have no narrower common class
        raise BadRequest("Malformed request body") from error
    if len(body) > MAX_SMALL_BODY:
        raise too_large()
    request.META["CONTENT_LENGTH"] = str(len(body))
    request._stream = io.BytesIO(body)
    return len(body)


def declared_length(request: HttpRequest) -> int:
    """Return Content-Length in bytes, or 0 without it; the server has checked that it is a number."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def too_large(limit: int = MAX_SMALL_BODY) -> RequestTooLarge:
    """Return the error for a body over `limit` bytes."""
    return RequestTooLarge(details={"limit_bytes": limit})
