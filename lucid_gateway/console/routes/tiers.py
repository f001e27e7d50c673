"""The numbers of each tier that are in force for everyone, in words."""

from dataclasses import dataclass

from django.conf import settings

from lucid_gateway.operators.numbers import size
from lucid_gateway.policy.tiers import TIERS
from ratelimit.rules import byte_limit_for, limit_for


@dataclass(frozen=True)
class TierView:
    """A tier: its numbers, and whether a rule of an operator has set them, or only observes (shadow mode)."""

    name: str
    numbers: str
    by_rule: bool
    observed: bool


def tier_views() -> dict[str, TierView]:
    """Return the tiers by name. Rules for single users, keys and networks may differ."""
    return {name: tier_view(name) for name in TIERS}


def tier_view(name: str) -> TierView:
    if TIERS[name].counts_requests:
        limit = limit_for(name)
        numbers = f"{limit.requests_per_minute:,} a minute, burst {limit.burst_size:,}"
        return TierView(name, in_force(numbers), bool(limit.rule), limit.observe_only)
    bytes_limit = byte_limit_for()
    numbers = f"{size(bytes_limit.bytes_per_second)} a second, burst {size(bytes_limit.burst_bytes)}"
    return TierView(name, in_force(numbers), bool(bytes_limit.rule), bytes_limit.observe_only)


def in_force(numbers: str) -> str:
    return numbers if settings.ENV.RATE_LIMIT_ENABLED else "off: RATE_LIMIT_ENABLED is false"
