"""Middleware of the console."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse

from accounts.enrolment import must_enrol
from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.kernel.operator_pages import is_admin, shows_errors_as_pages
from lucid_gateway.kernel.secrets.pasted import without_secrets
from lucid_gateway.policy.errors import InsufficientPermissions

OPEN_PAGES = ("admin:second_factor", "admin:login", "admin:logout")


class NoSecretsMiddleware:
    """Leads to the address without the secret if an operator has sent a key or a token in the query of a page.

    The script of the pages cuts secrets before they are sent; this is for browsers without it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method != "GET" or not request.GET or not is_admin(request):
            return self.get_response(request)
        query = request.GET.copy()
        for name, values in request.GET.lists():
            query.setlist(name, [without_secrets(text) for text in values])
        if query == request.GET:
            return self.get_response(request)
        return HttpResponseRedirect(f"{request.path}?{query.urlencode()}")


class SecondFactorMiddleware:
    """Leads staff without a second factor to the page that adds one, where STAFF_SECOND_FACTOR requires it.

    Runs after AdminAuthenticationMiddleware, which finds out who the user is.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_admin(request) or not must_enrol(request.user):
            return self.get_response(request)
        if request.path_info in map(reverse, OPEN_PAGES):
            return self.get_response(request)
        if not shows_errors_as_pages(request):
            return error_response(request, InsufficientPermissions("Add a second factor first"))
        return HttpResponseRedirect(reverse("admin:second_factor"))
