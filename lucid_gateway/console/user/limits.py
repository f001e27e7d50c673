"""What a user has used of the limits, as bars."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from accounts.callers import caller_of_user
from accounts.models import User
from lucid_gateway.operators import links
from lucid_gateway.operators.numbers import size
from lucid_gateway.policy import tiers
from lucid_gateway.policy.roles import STAFF
from ratelimit.models import LimitRule
from ratelimit.usage import TierUsage, usage_of

HOT = 0.9


@dataclass(frozen=True)
class Meter:
    """A bar: `text` says what it shows, such as `212 of 1,000`."""

    label: str
    used: int
    limit: int
    text: str
    observe_only: bool = False

    @property
    def is_hot(self) -> bool:
        """Whether little is left."""
        return self.limit > 0 and self.used >= self.limit * HOT


@dataclass(frozen=True)
class Limits:
    """The effective limits; `quota` and `at_a_time` are None where there is no limit."""

    meters: list[Meter]
    quota: Meter | None
    at_a_time: Meter | None


def limits_of(user: User) -> Limits:
    """Return what the user has used, in one call of Redis; raise RedisUnavailable."""
    usage = usage_of(caller_of_user(user))
    shown = [tier for tier in usage.tiers if concerns(user, tier)]
    return Limits(
        meters=[meter for tier in shown for meter in meters_of(tier)],
        quota=total("Quota, today", usage.quota),
        at_a_time=total("At a time", usage.concurrent),
    )


def concerns(user: User, tier: TierUsage) -> bool:
    """Return whether to show the tier: that of staff only for staff, or if it was used."""
    return tier.tier != tiers.ADMIN.name or user.role in STAFF or tier.remaining < tier.limit


def meters_of(tier: TierUsage) -> Iterator[Meter]:
    """Yield the bar of the tier and, once requests go beyond its rate, that of its burst."""
    name = tier.tier.replace("_", " ")
    if tier.tier == tiers.CHUNK_UPLOAD.name:
        used = max(0, tier.burst - tier.burst_remaining)
        yield Meter(f"{name}, now", used, tier.burst, f"{size(used)} of {size(tier.burst)}", tier.observe_only)
        return
    used = tier.limit - tier.remaining
    yield Meter(f"{name}, this minute", used, tier.limit, f"{used:,} of {tier.limit:,}", tier.observe_only)
    if used := tier.burst - tier.burst_remaining:
        yield Meter(f"{name}, burst", used, tier.burst, f"{used:,} of {tier.burst:,}", tier.observe_only)


def total(label: str, usage: Any) -> Meter | None:
    """Return the bar of a quota or of concurrent requests, None without a limit."""
    if usage.limit is None:
        return None
    return Meter(label, usage.used, usage.limit, f"{usage.used:,} of {usage.limit:,}")


def own_rules(user: User) -> list[LimitRule]:
    """Return the rules for this user alone."""
    return list(LimitRule.objects.in_force().filter(subject=f"user:{user.pk}"))


def new_rule(user: User) -> str:
    """Return the address of the form for a rule for this user."""
    return links.page("ratelimit_limitrule_add", tier=tiers.AUTHENTICATED.name, subject=f"user:{user.pk}")
