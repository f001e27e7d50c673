"""The front door: which requests are well-formed enough to be looked at."""

from collections.abc import Callable
from urllib.parse import quote, urlsplit

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.error_responses import error_response
from lucid_gateway.errors import BadRequest
from proxy.paths import AmbiguousPath, canonical_path
from proxy.routes import SAFE_IN_PATH


class RequestTargetMiddleware:
    """Refuses requests without a Host and paths that are ambiguous; gives all others their one canonical path."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            check_host(request)
            check_framing(request)
            path = canonical_path(raw_path(request))
        except AmbiguousPath as error:
            return error_response(request, BadRequest(f"Bad request: {error}"))
        if path.startswith("/api/") and len(path) > len("/api/"):
            path = path.removesuffix("/")
        request.path = request.path_info = request.META["PATH_INFO"] = path
        return self.get_response(request)


def check_host(request: HttpRequest) -> None:
    """Raise AmbiguousPath unless there is one Host, the same as in an absolute-form target (RFC 9112, section 3.2)."""
    host = request.META.get("HTTP_HOST", "")
    if not host or "," in host:
        raise AmbiguousPath("exactly one Host is needed")
    target = request.META.get("RAW_URI", "/")
    if not target.startswith("/") and target != "*" and urlsplit(target).netloc.lower() != host.lower():
        raise AmbiguousPath("the target and the Host field differ")


def check_framing(request: HttpRequest) -> None:
    """Raise AmbiguousPath for a body in a coding beyond `chunked`: the server accepts gzip, but does not decode it."""
    if request.META.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        raise AmbiguousPath("the only transfer coding is chunked")


def raw_path(request: HttpRequest) -> str:
    """Return the path as it was on the request line; a server that does not tell it has decoded it once."""
    target: str | None = request.META.get("RAW_URI")
    if target is None:
        return quote(request.path_info, safe=SAFE_IN_PATH)
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path
