"""Middleware of the accounts: where a request comes from, for what is recorded on its way."""

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.audit import Origin, origin
from ratelimit.client_address import client_address


class OriginMiddleware:
    """Notes address, user agent and request id for the audit log and the records of issued tokens.

    Runs after TrustedProxyMiddleware and RequestIDMiddleware, which find out both.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user_agent = request.META.get("HTTP_USER_AGENT", "")
        request_id: str = request.request_id  # type: ignore[attr-defined]
        noted = origin.set(Origin(client_address(request), user_agent, request_id))
        try:
            return self.get_response(request)
        finally:
            origin.reset(noted)
