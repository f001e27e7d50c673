"""The static files of the operator pages and the API documents: whitenoise finds them, `Document` serves them."""

from functools import cached_property
from pathlib import Path

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware

from lucid_gateway.kernel.documents import Document
from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.meta.static_storage import version_of
from lucid_gateway.policy.errors import OperationNotAllowed
from ratelimit.throttling import charge_address

FOR_AN_HOUR = "public, max-age=3600"
FOREVER = "public, max-age=31536000, immutable"


class StaticFile:
    """A file, which is read on the first request for it."""

    def __init__(self, path: str, content_type: str) -> None:
        self.path, self.content_type = path, content_type

    @cached_property
    def document(self) -> Document:
        return Document(Path(self.path).read_bytes(), self.content_type, cache_control=FOR_AN_HOUR)

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        """Return the file; if the URL has its version, clients may cache it forever."""
        response = self.document.answer(request)
        if request.META.get("QUERY_STRING") == f"v={version_of(self.path)}":
            response.headers["Cache-Control"] = FOREVER
        return response


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # whitenoise ships no types
    """Answers requests for files, which count in the public tier, and passes all others on."""

    def add_file_to_dictionary(self, url: str, path: str, stat_cache: object = None) -> None:
        """Add a file that whitenoise has found, except source maps: they are large, and only developers use them."""
        if not path.endswith(".map"):
            media_type = self.media_types.get_type(path)
            text = media_type.startswith("text/")
            self.files[url] = StaticFile(path, f"{media_type}; charset=utf-8" if text else media_type)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        file: StaticFile | None = self.files.get(request.path_info)
        if file is None:
            response: HttpResponseBase = self.get_response(request)
            return response
        if request.method not in ("GET", "HEAD"):
            return error_response(request, OperationNotAllowed(headers={"Allow": "GET, HEAD"}))
        decision = charge_address(request)
        return file.answer(request) if decision.admitted else error_response(request, decision.error())
