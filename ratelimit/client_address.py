"""The address of the client that sent a request; no client can forge it."""

import ipaddress
import re
from collections.abc import Sequence

from django.http import HttpRequest

from lucid_gateway.kernel.env import Network
from lucid_gateway.kernel.record import record_of

UNIX_SOCKET = ""
IPV6_PREFIX = 64
# Some proxies append a port: 192.0.2.1:5555, [2001:db8::1], [2001:db8::1]:443.
WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\](?::[0-9]{1,5})?")


def parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, an IPv4-mapped IPv6 address as IPv4, or None if the text is not an address."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_hop(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address of an entry of X-Forwarded-For, which may have a port; None if the entry is invalid.

    An IPv6 zone (`%eth0`) has a meaning only on its own host (RFC 4007, section 6) and could be any text.
    """
    if found := WITH_PORT.fullmatch(text.strip()):
        return parse(found[1] or found[2])
    return None if "%" in text else parse(text)


def is_trusted(text: str, networks: Sequence[Network]) -> bool:
    """Return whether the peer is a trusted proxy: it is in TRUSTED_PROXIES, or connected over a unix socket."""
    if text == UNIX_SOCKET:
        return True
    return is_within(text, networks)


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Return whether the text is an address in one of the networks."""
    if not networks:
        return False
    address = parse(text)
    return address is not None and any(address in network for network in networks)


def resolve(peer: str, forwarded_for: str, networks: Sequence[Network]) -> str:
    """Return the rightmost address in the chain that is not a trusted proxy; a client can forge all left of it."""
    if not is_trusted(peer, networks):
        return peer
    client = peer
    for hop in reversed(forwarded_for.split(",")):
        address = parse_hop(hop)
        if address is None:
            break
        client = str(address)
        if not is_trusted(client, networks):
            break
    return client


def client_address(request: HttpRequest) -> str:
    """Return the client's address as TrustedProxyMiddleware found it."""
    return record_of(request).client_address


def address_bucket(address: str) -> str:
    """Return the name under which an address is counted: itself, or the /64 of an IPv6 address."""
    parsed = parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed) if parsed else "unknown"
