"""Public pages outside the API."""

from csp.constants import NONE, SELF
from csp.decorators import csp
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View

from lucid_gateway.kernel.documents import Document
from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.policy.errors import OperationNotAllowed
from ratelimit.throttling import charge_address

# Scripts, styles and images come from our own files only, and forms are sent by those scripts only.
POLICY = {
    "default-src": [NONE], "script-src": [SELF], "style-src": [SELF], "img-src": [SELF], "connect-src": [SELF],
    "base-uri": [NONE], "form-action": [NONE], "frame-ancestors": [NONE],
}  # fmt: skip


@method_decorator(csp(POLICY), name="dispatch")
class PublicPage(View):
    """A page that is the same for everyone, counted in the public tier."""

    http_method_names = ["get", "head"]

    def document(self) -> Document:
        """Return the page; the same object each time, so that each process builds it once."""
        raise NotImplementedError

    def dispatch(self, request: HttpRequest) -> HttpResponseBase:
        """Count the request, and answer it if its address is within its limit."""
        decision = charge_address(request)
        return super().dispatch(request) if decision.admitted else error_response(request, decision.error())

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the page."""
        return self.document().answer(request)

    def http_method_not_allowed(self, request: HttpRequest, *_: object, **__: object) -> HttpResponse:
        """Refuse the method, in the error envelope."""
        return error_response(request, OperationNotAllowed(headers={"Allow": "GET, HEAD"}))
