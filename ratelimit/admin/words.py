"""What rules do and why they were made, in words."""

import ipaddress
from collections.abc import Mapping
from typing import Any

from lucid_gateway.operators.links import requests_page
from lucid_gateway.operators.numbers import size
from lucid_gateway.policy.tiers import TIERS
from ratelimit.models import ALL_TIERS, AddressRule, LimitRule, is_past

Kind = AddressRule.Kind
DOES = {
    Kind.ALLOW: "Requests from {} are not limited by address, and the gateway never halves or blocks them.",
    Kind.DENY: "Every request from {} is refused.",
    Kind.BLOCKED: "Every request from {} is refused.",
    Kind.HALVED: "The limits of requests from {} are halved.",
}
KIND_WORDS = {Kind.ALLOW: "Allowed", Kind.DENY: "Denied", Kind.BLOCKED: "Blocked", Kind.HALVED: "Halved"}
# Wider networks than these need a confirmation.
WIDEST_UNASKED = {4: 16, 6: 48}
OFFENCE = frozenset({"tier", "refused", "limit", "burst", "window_seconds"})


def numbers_in_words(rule: LimitRule) -> str:
    """Return what the rule sets, such as `50 a minute, burst 100`."""
    if rule.tier == ALL_TIERS:
        parts = [numbered(rule.concurrent_requests, "{} at once"), numbered(rule.daily_quota, "{} a day")]
    elif rule.tier in TIERS and not TIERS[rule.tier].counts_requests:
        parts = [f"{size(rule.limit)} a second" if rule.limit else "", sized_burst(rule.burst)]
    else:
        parts = [numbered(rule.limit, "{} a minute"), numbered(rule.burst, "burst {}")]
    return ", ".join(part for part in parts if part) or "no other numbers"


def numbered(number: int | None, text: str) -> str:
    return "" if number is None else text.format(f"{number:,}")


def sized_burst(count: int | None) -> str:
    return "" if count is None else f"burst {size(count)}"


def is_wide(rule: LimitRule | AddressRule) -> bool:
    """Return whether the rule is for everyone, or for more than a /16 or, with IPv6, a /48."""
    if isinstance(rule, LimitRule):
        return not rule.subject
    network = ipaddress.ip_network(rule.network)
    return network.prefixlen < WIDEST_UNASKED[network.version]


def network_in_words(network: str) -> str:
    """Return the address, or the network with the number of its addresses."""
    parsed = ipaddress.ip_network(network)
    count = parsed.num_addresses
    if count == 1:
        return str(parsed.network_address)
    return f"{network} ({count:,} addresses)" if count < 2**32 else network


def what_it_does(rule: AddressRule) -> str:
    """Return what happens now to requests from the network."""
    where = network_in_words(rule.network)
    if is_past(rule.expires_at):
        return f"This rule has ended: requests from {where} are treated like all others."
    if rule.observe_only:
        return f"In shadow mode: every request from {where} would be refused, but none is."
    return DOES[Kind(rule.kind)].format(where)


def evidence_in_words(evidence: Mapping[str, Any]) -> str:
    """Return why the gateway made a rule itself, or "" without evidence."""
    if evidence.keys() >= OFFENCE:
        limit = "the limit of {limit:,} requests a minute and the burst of {burst:,} of the tier {tier}"
        return (
            f"{evidence['refused']:,} requests were refused within a minute: {limit.format(**evidence)} were used up."
        )
    return "; ".join(f"{name}: {value}" for name, value in evidence.items())


def requests_url(rule: AddressRule) -> str:
    """Return the address of the list of requests that the rule refused, or "" if there is no such list."""
    if rule.kind not in (Kind.DENY, Kind.BLOCKED):
        return ""
    network = ipaddress.ip_network(rule.network)
    where = {"address": network.network_address} if network.num_addresses == 1 else {"network": network}
    reason = "address_denied" if rule.expires_at is None else "address_blocked"
    return requests_page(**where, reason=reason)
