"""Django's session, CSRF, login and message middleware for /admin only (the API has no cookies), and the policy for
what browsers may do with pages.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin

from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.kernel.operator_pages import is_admin
from lucid_gateway.policy import errors

# Django answers these without a body.
EMPTY_ERRORS = {error.status: error for error in (errors.BadRequest, errors.NotFound, errors.OperationNotAllowed)}

SEEN_AT = "seen_at"  # in the session: when the operator was last active, in seconds since the epoch
IDLE_SECONDS, SEEN_EVERY_SECONDS = 3600, 60

if TYPE_CHECKING:
    Base = MiddlewareMixin
else:
    Base = object


class OnlyForAdmin(Base):
    """A mixin for Django's middleware classes, which skips them for all other paths."""

    get_response: Callable[[HttpRequest], HttpResponseBase]

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_admin(request):
            return self.get_response(request)
        response: HttpResponseBase = super().__call__(request)  # type: ignore[assignment]
        return response


class AdminSessionMiddleware(OnlyForAdmin, SessionMiddleware):
    pass


class AdminIdleMiddleware:
    """Ends a session in which nobody has opened a page or sent a form for an hour.

    Pages that refresh themselves do not count: browsers mark requests of scripts (Fetch Metadata, `Sec-Fetch-Mode`).
    The session is written once a minute at most.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_admin(request) and SESSION_KEY in request.session:
            now = int(time.time())
            idle_for = now - request.session.setdefault(SEEN_AT, now)
            if idle_for > IDLE_SECONDS:
                request.session.flush()
            elif idle_for > SEEN_EVERY_SECONDS and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
                request.session[SEEN_AT] = now
        return self.get_response(request)


class AdminCsrfMiddleware(OnlyForAdmin, CsrfViewMiddleware):
    def process_view(self, request, callback, args, kwargs):  # type: ignore[no-untyped-def]
        return super().process_view(request, callback, args, kwargs) if is_admin(request) else None


class AdminAuthenticationMiddleware(OnlyForAdmin, AuthenticationMiddleware):
    pass


class AdminMessageMiddleware(OnlyForAdmin, MessageMiddleware):
    pass


class AdminErrorsMiddleware:
    """Gives Django's errors without a body, such as a 405 of a view, the body of our errors."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        error = EMPTY_ERRORS.get(response.status_code)
        if error is None or not is_admin(request) or getattr(response, "content", True):
            return response
        answer = error_response(request, error())
        if "Allow" in response.headers:
            answer["Allow"] = response["Allow"]
        return answer


class PagePolicyMiddleware(CSPMiddleware):
    """Adds a content security policy and X-Frame-Options to pages: CONTENT_SECURITY_POLICY for those of /admin, and for
    others the policy that their view sets with `csp.decorators.csp`. API answers get neither.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]  # never awaitable here
        if is_admin(request) or hasattr(response, "_csp_config"):
            response.headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
            self.process_response(request, response)
        return response
