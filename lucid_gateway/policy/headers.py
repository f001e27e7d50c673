"""Which header fields pass the gateway in each direction (RFC 9110, section 7.6.1). Names are in lower case."""

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
# The forwarder writes these itself.
FRAMING = frozenset({"content-length", "expect", "host"})
# A client's credentials stay at the gateway, and only the gateway may say who the client is.
GATEWAY_OWNED = frozenset(
    {
        "authorization", "x-api-key", "x-request-id", "via", "x-gateway-signature", "remote-user", "x-remote-user",
        # Other names for the client's address and for the requested host.
        "forwarded", "x-forwarded", "x-real-ip", "client-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
        "cf-connecting-ip", "fastly-client-ip", "x-original-forwarded-for", "x-host", "x-original-host",
        # A cluster that uses CGI would send its own requests through this proxy (HTTP_PROXY).
        "proxy",
        # Other names for method and path: the gateway has already checked the real ones.
        "x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
# The edge and the gateway speak to each other in fields that begin with `x-lucid-`.
GATEWAY_OWNED_PREFIXES = ("x-user-", "x-auth-", "x-forwarded-", "x-lucid-")
NOT_FORWARDED = HOP_BY_HOP | FRAMING | GATEWAY_OWNED

# A cluster may not set these. The gateway decides on CORS and limits; the others affect the whole host in a browser, or
# reveal software.
NOT_RETURNED_PREFIXES = ("access-control-", "x-ratelimit-", "ratelimit", "x-lucid-")
NOT_RETURNED = HOP_BY_HOP | {
    "x-request-id", "strict-transport-security", "clear-site-data", "alt-svc", "nel", "report-to", "server",
}  # fmt: skip
# Cookies of the operator pages; no cluster may set them.
OWN_COOKIES = frozenset({"sessionid", "csrftoken", "messages"})

# The gateway sends these fields about the caller to a cluster; `X-Gateway-Signature` covers them in this order.
IDENTITY = ("x-user-id", "x-user-role", "x-user-permissions", "x-request-id")
VIA = "1.1 lucid-api-gateway"
# Accepted from trusted proxies only; removed from the requests of all other peers.
FROM_TRUSTED_PROXIES = frozenset(
    {
        "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded", "x-real-ip",
        "x-request-id",
    }
)  # fmt: skip


def is_forwarded(name: str) -> bool:
    """Return whether the gateway forwards a client's field of that lower-case name to the cluster."""
    return name not in NOT_FORWARDED and not name.startswith(GATEWAY_OWNED_PREFIXES)


def is_returned(name: str) -> bool:
    """Return whether the gateway returns a cluster's field of that lower-case name to the client."""
    return name not in NOT_RETURNED and not name.startswith(NOT_RETURNED_PREFIXES)


def named_in_connection(value: str) -> frozenset[str]:
    """Return the names that a Connection field declares hop-by-hop, in lower case."""
    return frozenset(name.strip().lower() for name in value.split(",")) if value else frozenset()
