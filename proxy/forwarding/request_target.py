"""Checks that a request is unambiguous before anything else reads it, and gives it a canonical path."""

import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, urlsplit

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import BadRequest, UpgradeRefused
from lucid_gateway.policy.paths import AmbiguousPath, canonical_path
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.routes import SAFE_IN_PATH

MAX_PORT = 65535


class BadTarget(ValueError):
    """A request target, Host or framing that two servers could interpret differently."""


class RequestTargetMiddleware:
    """Refuses tunnels, requests without a Host and ambiguous paths; gives all other requests their canonical path."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            refuse_tunnels(request)
            check_target(request)
            check_framing(request)
            path = served_path(raw_path(request))
        except UpgradeRefused as refusal:
            return error_response(request, refusal)
        except (BadTarget, AmbiguousPath) as error:
            return error_response(request, ambiguous(error))
        record_of(request).passed(Step.PATH)
        request.path = request.path_info = request.META["PATH_INFO"] = path
        return self.get_response(request)


def ambiguous(error: ValueError) -> BadRequest:
    """Return the error for a target that two servers could interpret differently."""
    return BadRequest(f"Bad request: {error}", reason="ambiguous_target")


def served_path(raw: str) -> str:
    """Return the canonical path, below /api without a trailing slash; raise AmbiguousPath."""
    path = canonical_path(raw)
    return path.removesuffix("/") if path.startswith("/api/") and len(path) > len("/api/") else path


def refuse_tunnels(request: HttpRequest) -> None:
    """Raise UpgradeRefused for CONNECT and WebSocket: only the edge makes tunnels, and asks whether it may.

    Any other Upgrade, such as curl's h2c, is only an offer and is ignored (RFC 9110, section 7.8).
    """
    if request.method == "CONNECT":
        raise UpgradeRefused("The gateway does not support CONNECT")
    if offered := request.META.get("HTTP_UPGRADE"):
        protocols = {protocol.partition("/")[0].strip().lower() for protocol in offered.split(",")}
        if "websocket" in protocols and not record_of(request).is_handshake:
            raise UpgradeRefused()


def check_target(request: HttpRequest) -> None:
    """Raise BadTarget unless there is one Host, equal to that of an absolute-form target (RFC 9112, section 3.2).

    A target must not have a fragment, and an absolute one must use http or https (RFC 9110, section 4.2).
    """
    host = request.META.get("HTTP_HOST", "")
    if not host or "," in host:
        raise BadTarget("exactly one Host field is required")
    if not has_valid_port(host):
        raise BadTarget("the port in the Host field is invalid")
    target = request.META.get("RAW_URI", "/")
    if "#" in target:
        raise BadTarget("the target has a fragment")
    if not target.startswith("/") and target != "*":
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or parts.netloc.lower() != host.lower():
            raise BadTarget("the target and the Host field differ")


@lru_cache(maxsize=256)
def has_valid_port(host: str) -> bool:
    """Return whether the Host field has no port, an empty one, or a number up to 65535."""
    if ":" not in host or host.endswith("]"):
        return True
    port = re.fullmatch(r".*:0*([0-9]{0,5})", host)
    return port is not None and int(port[1] or 0) <= MAX_PORT


def check_framing(request: HttpRequest) -> None:
    """Raise BadTarget for any transfer coding but `chunked`: the server accepts gzip without decoding it."""
    if request.META.get("HTTP_TRANSFER_ENCODING", "chunked").strip().lower() != "chunked":
        raise BadTarget("the only supported transfer coding is chunked")


def raw_path(request: HttpRequest) -> str:
    """Return the path as it is on the request line; without RAW_URI, quote the path that the server has decoded."""
    target: str | None = request.META.get("RAW_URI")
    if target is None:
        return quote(request.path_info, safe=SAFE_IN_PATH)
    if target == "*":
        return "/*"  # the server as a whole (RFC 9112, section 3.2.4): it must not resolve to the view of "/"
    path = target.partition("?")[0]
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path
