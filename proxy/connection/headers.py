"""Header fields that the gateway forwards to a cluster and returns to the client (RFC 9110, section 7.6.1)."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from django.http import HttpRequest

from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.headers import OWN_COOKIES, VIA, is_forwarded, is_returned, named_in_connection
from proxy.clusters import Instance
from proxy.connection.trace import traceparent
from ratelimit.client_address import client_address

TRACEPARENT = frozenset({"traceparent"})
TRACE = TRACEPARENT | {"tracestate"}  # dropped when the gateway starts a new trace
COOKIE_NAME = re.compile(r"[\s=]*([^=]*).*", re.DOTALL)
CACHED_NAMES = 1024  # clients and clusters choose the names, so the cache has a limit


class Identity(Protocol):
    """The attributes of the caller that the headers pass to a cluster."""

    @property
    def user_id(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def permissions(self) -> frozenset[str]: ...


@lru_cache(maxsize=CACHED_NAMES)
def forwarded_name(key: str) -> str:
    """Return the field name for a WSGI key such as `HTTP_X_NAME`, or "" if the field is not forwarded."""
    name = key[5:].replace("_", "-").lower()
    return name if is_forwarded(name) else ""


def request_headers(request: HttpRequest, caller: Identity, instance: Instance) -> list[tuple[str, str]]:
    """Return the fields for the cluster, without framing: the client's that are forwarded, then the gateway's own."""
    trace = traceparent(request)
    replaced = TRACE if trace != request.META.get("HTTP_TRACEPARENT") else TRACEPARENT
    dropped = replaced | named_in_connection(request.META.get("HTTP_CONNECTION", ""))
    passed = [
        (name, value)
        for key, value in request.META.items()
        if key.startswith("HTTP_") and (name := forwarded_name(key)) and name not in dropped
    ]
    if content_type := request.META.get("CONTENT_TYPE"):
        passed.append(("content-type", content_type))
    return [("host", instance.authority), *passed, *gateway_headers(request, caller)]


def gateway_headers(request: HttpRequest, caller: Identity) -> list[tuple[str, str]]:
    """Return the fields that the gateway adds: identity, the client's address, scheme and host, and the trace."""
    return [
        *identity_headers(caller, record_of(request).request_id),
        ("x-forwarded-for", client_address(request)),
        ("x-forwarded-proto", request.scheme or "http"),
        ("x-forwarded-host", request.META["HTTP_HOST"]),
        ("traceparent", traceparent(request)),
    ]


def identity_headers(caller: Identity, request_id: str) -> list[tuple[str, str]]:
    """Return the fields that name the caller, the request and the gateway."""
    return [
        ("x-request-id", request_id),
        ("x-user-id", caller.user_id),
        ("x-user-role", str(caller.role)),
        ("x-user-permissions", ",".join(sorted(caller.permissions))),
        ("via", VIA),
    ]


def response_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields for the client, in order; repeated fields stay separate."""
    headers = list(headers)
    named = named_in_connection(",".join(value for name, value in headers if name.lower() == "connection"))
    return [
        (name, value)
        for name, value in headers
        if (lowered := returned_name(name))
        and lowered not in named
        and not (lowered == "set-cookie" and sets_own_cookie(value))
    ]


@lru_cache(maxsize=CACHED_NAMES)
def returned_name(name: str) -> str:
    """Return the name in lower case, or "" if a cluster may not send the field to the client."""
    lowered = name.lower()
    return lowered if is_returned(lowered) else ""


def sets_own_cookie(set_cookie: str) -> bool:
    """Return whether a Set-Cookie field sets a cookie that the operator pages would accept as their own.

    A browser sends a cookie without a name as its value alone: `=sessionid=x` comes back as `sessionid=x`. Django
    decodes the field as UTF-8 and strips all Unicode white space from a name.
    """
    pair = set_cookie.partition(";")[0].encode("latin-1").decode("utf-8", "replace")
    return COOKIE_NAME.sub(r"\1", pair).strip() in OWN_COOKIES
