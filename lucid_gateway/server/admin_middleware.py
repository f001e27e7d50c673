"""Django's session, CSRF, login and message middleware for /admin only (the API has no cookies), and the policy for
what browsers may do with pages.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin

PREFIX = "/admin"

if TYPE_CHECKING:
    Base = MiddlewareMixin
else:
    Base = object


def is_admin(request: HttpRequest) -> bool:
    return request.path_info == PREFIX or request.path_info.startswith(f"{PREFIX}/")


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


class AdminCsrfMiddleware(OnlyForAdmin, CsrfViewMiddleware):
    def process_view(self, request, callback, args, kwargs):  # type: ignore[no-untyped-def]
        return super().process_view(request, callback, args, kwargs) if is_admin(request) else None


class AdminAuthenticationMiddleware(OnlyForAdmin, AuthenticationMiddleware):
    pass


class AdminMessageMiddleware(OnlyForAdmin, MessageMiddleware):
    pass


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
