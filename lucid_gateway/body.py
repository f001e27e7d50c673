"""The body of the gateway's own small endpoints: limited in size, and read right when it has no length."""

import io
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.error_responses import error_response
from lucid_gateway.errors import BadRequest, RequestTimeout, RequestTooLarge

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
        return self.buffer_chunked(request)

    def buffer_chunked(self, request: HttpRequest) -> HttpResponseBase | None:
        """Read the chunked body into memory, up to the limit, and hand it to Django with its length."""
        try:
            body = request.META["wsgi.input"].read(MAX_SMALL_BODY + 1)
        except RequestTimeout as error:
            return error_response(request, error)
        except Exception:  # noqa: BLE001  # gunicorn's parser errors have no narrower class in common
            return error_response(request, BadRequest("Malformed request body"))
        if len(body) > MAX_SMALL_BODY:
            return error_response(request, too_large())
        request.META["CONTENT_LENGTH"] = str(len(body))
        request._stream = io.BytesIO(body)
        return None


def declared_length(request: HttpRequest) -> int:
    """Return Content-Length in bytes, 0 if there is none; the server has checked that it is a number."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def too_large(limit: int = MAX_SMALL_BODY) -> RequestTooLarge:
    """Return the error for a body over `limit` bytes."""
    return RequestTooLarge(details={"limit_bytes": limit})
