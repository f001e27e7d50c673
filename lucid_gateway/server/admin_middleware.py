"""Django's session, CSRF, login and message middleware, run for /admin alone: the API keeps no cookies.

And what browsers may do with pages.
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
    """Return whether the request is for the operator pages."""
    return request.path_info == PREFIX or request.path_info.startswith(f"{PREFIX}/")


class OnlyForAdmin(Base):
    """Mixed in before one of Django's middleware classes: steps aside for all other paths."""

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
        """Django calls this for every path."""
        return super().process_view(request, callback, args, kwargs) if is_admin(request) else None


class AdminAuthenticationMiddleware(OnlyForAdmin, AuthenticationMiddleware):
    pass


class AdminMessageMiddleware(OnlyForAdmin, MessageMiddleware):
    pass


class PagePolicyMiddleware(CSPMiddleware):
    """Adds the content security policy and the protection from frames to pages: those of /admin get
    CONTENT_SECURITY_POLICY, others the policy that their view names by `csp.decorators.csp`. The API has neither.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]  # never awaitable here
        if is_admin(request) or hasattr(response, "_csp_config"):
            response.headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
            self.process_response(request, response)
        return response
