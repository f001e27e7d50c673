"""The pages that mailed links lead to. GET and HEAD do nothing: their button posts to the API."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views import View

from lucid_gateway.error_responses import error_response
from lucid_gateway.errors import OperationNotAllowed

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class LinkPage(View):
    """A page with one form; what it is for is told by `page`, the name of its template's block of texts."""

    http_method_names = ["get", "head"]
    page = ""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the page. The link's token is in the fragment, which is never sent here."""
        context: dict[str, Any] = {"page": self.page}
        response = render(request, f"accounts/{self.page}.html", context)
        response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response["Referrer-Policy"] = "no-referrer"
        response["Cache-Control"] = "no-store"
        response["X-Frame-Options"] = "DENY"
        return response

    def http_method_not_allowed(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        """Refuse the method with the envelope."""
        return error_response(request, OperationNotAllowed(headers={"Allow": "GET, HEAD"}))
