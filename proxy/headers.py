"""The header rules: what goes on to a cluster, and what comes back (RFC 9110, section 7.6.1)."""

from collections.abc import Iterable
from typing import Protocol

from django.http import HttpRequest

from proxy.clusters import Instance
from proxy.trace import traceparent
from ratelimit.client_address import client_address

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
FRAMING = frozenset({"content-length", "expect", "host"})
# Never the client's to say: its credentials stay here, and who it is the gateway says.
GATEWAY_OWNED = frozenset(
    {
        "authorization", "x-api-key", "x-request-id", "forwarded", "x-real-ip", "via", "x-gateway-signature",
        # What a cluster that speaks CGI would take for the proxy of its own requests (HTTP_PROXY).
        "proxy",
        # Other names for method and path, which the gateway has judged already.
        "x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
GATEWAY_OWNED_PREFIXES = ("x-user-", "x-forwarded-")
TRACEPARENT = frozenset({"traceparent"})
TRACE = TRACEPARENT | {"tracestate"}  # of a trace that is not gone on with
NOT_FORWARDED = HOP_BY_HOP | FRAMING | GATEWAY_OWNED
# Never a cluster's to say: what other origins may read (CORS), and what the gateway's limits are.
NOT_RETURNED_PREFIXES = ("access-control-", "x-ratelimit-", "ratelimit")
VIA = "1.1 lucid-api-gateway"


class Identity(Protocol):
    """What the headers tell a cluster of the caller."""

    @property
    def user_id(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def permissions(self) -> frozenset[str]: ...


def named_in_connection(value: str) -> frozenset[str]:
    """Return the field names that a Connection field declares hop-by-hop."""
    return frozenset(name.strip().lower() for name in value.split(",")) if value else frozenset()


def request_headers(request: HttpRequest, caller: Identity, instance: Instance) -> list[tuple[str, str]]:
    """Return the fields for the cluster, without framing: the client's that may pass, then the gateway's own."""
    trace = traceparent(request)
    ours = TRACE if trace != request.META.get("HTTP_TRACEPARENT") else TRACEPARENT
    dropped = NOT_FORWARDED | ours | named_in_connection(request.META.get("HTTP_CONNECTION", ""))
    passed = [
        (name, value)
        for key, value in request.META.items()
        if key.startswith("HTTP_")
        and (name := key[5:].replace("_", "-").lower()) not in dropped
        and not name.startswith(GATEWAY_OWNED_PREFIXES)
    ]
    if content_type := request.META.get("CONTENT_TYPE"):
        passed.append(("content-type", content_type))
    return [("host", instance.authority), *passed, *own_headers(request, caller)]


def own_headers(request: HttpRequest, caller: Identity) -> list[tuple[str, str]]:
    """Return what the gateway says of the request."""
    return [
        *identity_headers(caller, request.request_id),  # type: ignore[attr-defined]
        ("x-forwarded-for", client_address(request)),
        ("x-forwarded-proto", request.scheme or "http"),
        ("x-forwarded-host", request.META["HTTP_HOST"]),
        ("traceparent", traceparent(request)),
    ]


def identity_headers(caller: Identity, request_id: str) -> list[tuple[str, str]]:
    """Return on whose behalf the gateway asks, and in which request."""
    return [
        ("x-request-id", request_id),
        ("x-user-id", caller.user_id),
        ("x-user-role", str(caller.role)),
        ("x-user-permissions", ",".join(sorted(caller.permissions))),
        ("via", VIA),
    ]


def response_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields that go back to the client, in order, repeated ones each on its own."""
    headers = list(headers)
    named = named_in_connection(",".join(value for name, value in headers if name.lower() == "connection"))
    dropped = HOP_BY_HOP | named | {"x-request-id"}
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith(NOT_RETURNED_PREFIXES)
    ]
