"""The files that the operator pages and the API documents load."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

from lucid_gateway.error_responses import error_response
from lucid_gateway.errors import OperationNotAllowed


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise ships no types
    """whitenoise, with the envelope for methods that make no sense on a file."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Serve the file, or go on."""
        if request.path_info in self.files and request.method not in ("GET", "HEAD"):
            return error_response(request, OperationNotAllowed(headers={"Allow": "GET, HEAD"}))
        response: HttpResponseBase = super().__call__(request)
        return response
