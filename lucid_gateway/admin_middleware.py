"""Django's session, CSRF, login and message middleware, run for /admin alone: the API keeps no cookies."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
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


class AdminClickjackingMiddleware(OnlyForAdmin, XFrameOptionsMiddleware):
    pass
