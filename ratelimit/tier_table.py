"""The limits in force of every tier: the environment's, with the operators' rules for everyone applied."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings

from lucid_gateway.operators.numbers import size, thousands
from lucid_gateway.policy import tiers
from lucid_gateway.policy.routes import ROUTES
from lucid_gateway.policy.tiers import TIERS, Counts, Tier, Unit
from ratelimit.engine.limits import default_byte_limit, default_limit
from ratelimit.models import ALL_TIERS, LimitRule
from ratelimit.rules import EVERYONE, byte_limit_for, limit_for, rules_cache

# How a rate and a burst are shown.
FORMATS: dict[Unit, tuple[Callable[[int], str], Callable[[int], str]]] = {
    Unit.REQUESTS_PER_MINUTE: (thousands, thousands),
    Unit.BYTES_PER_SECOND: (lambda count: f"{size(count)} a second", size),
}
COUNTED_BY = {Counts.ADDRESS: "address", Counts.CALLER: "user or API key"}
USED_BY = {
    tiers.PUBLIC.name: "requests without a login",
    tiers.AUTHENTICATED.name: "callers, where no other tier applies",
    tiers.ADMIN.name: "staff, in /admin and /api/v1/admin",
    tiers.LOGIN_ATTEMPT.name: "logins and password resets, each counted alone",
    tiers.CHUNK_UPLOAD.name: "uploads of chunks",
}


@dataclass(frozen=True)
class Number:
    """A number in force, as shown; `environment` is the environment's if a rule has replaced it, otherwise empty.

    `value` is the plain number in force, 0 for none.
    """

    shown: str
    value: int
    environment: str = ""


@dataclass(frozen=True)
class TierRow:
    """The limits of a tier for everyone; `rule` is the rule that sets them, None if it is the environment."""

    name: str
    title: str
    counted_by: str
    used_by: str
    limit: Number
    burst: Number
    observe_only: bool
    rule: LimitRule | None

    @property
    def numbers(self) -> str:
        """The rate and the burst, such as `500 a minute, burst 1,000`."""
        if not settings.ENV.RATE_LIMIT_ENABLED:
            return "off: RATE_LIMIT_ENABLED is false"
        unit = " a minute" if TIERS[self.name].counts_requests else ""
        return f"{self.limit.shown}{unit}, burst {self.burst.shown}"


def tier_rows() -> list[TierRow]:
    """Return a row for each tier."""
    return [tier_row(tier) for tier in TIERS.values()]


def tier_row(tier: Tier) -> TierRow:
    if tier.counts_requests:
        now, env = limit_for(tier.name), default_limit(tier.name)
        pairs = [(now.requests_per_minute, env.requests_per_minute), (now.burst_size, env.burst_size)]
        observed = now.observe_only
    else:
        upload, upload_env = byte_limit_for(), default_byte_limit()
        pairs = [(upload.bytes_per_second, upload_env.bytes_per_second), (upload.burst_bytes, upload_env.burst_bytes)]
        observed = upload.observe_only
    limit, burst = (
        Number(show(value), value, show(given) if value != given else "")
        for show, (value, given) in zip(FORMATS[tier.unit], pairs, strict=True)
    )
    return TierRow(
        tier.name, title_of(tier.label), COUNTED_BY[tier.subject], USED_BY.get(tier.name) or routes_of(tier),
        limit, burst, observed, rules_cache.current.limits.get((tier.name, EVERYONE)),
    )  # fmt: skip


def title_of(label: str) -> str:
    """Return the label of a tier without its unit, which the numbers have."""
    return label.partition(" (")[0]


def routes_of(tier: Tier) -> str:
    """Return the first two routes of the tier, and how many more there are."""
    paths = [f"/{route.path}" for route in ROUTES if route.tier == tier.name]
    more = f" and {len(paths) - 2} more" if len(paths) > 2 else ""
    return ", ".join(paths[:2]) + more


def totals() -> Iterator[tuple[str, str]]:
    """Yield the limits over all tiers for each user and API key, in words, with what sets them."""
    limit = limit_for(tiers.AUTHENTICATED.name, EVERYONE)
    source = "a rule" if (ALL_TIERS, EVERYONE) in rules_cache.current.limits else "the environment"
    for name, value in (("Requests a day", limit.daily_quota), ("Requests at once", limit.concurrent_requests)):
        yield name, f"{value:,}, set by {source}" if value else "no limit"
