"""The limiter: one atomic script on Redis decides for all workers and gateways (DESIGN, section 7)."""

import dataclasses
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from django.conf import settings

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.script import SERVER_RUN_ID, RedisScript
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import QuotaExceeded, RateLimited, TooManyConcurrentRequests
from lucid_gateway.policy.reasons import REASONS, Step
from lucid_gateway.policy.tiers import BURST_RENEWS_AFTER_SECONDS, WINDOW_SECONDS
from ratelimit.engine.leases import LEASE_MS, Lease
from ratelimit.engine.limits import RequestLimit
from ratelimit.engine.local import LocalLimiter

script = RedisScript(Path(__file__).parent / "admit.lua")
fallback = LocalLimiter()


class Verdict(IntEnum):
    """What the script says of a request."""

    OVER_LIMIT = 0
    ADMITTED = 1
    OVER_QUOTA = 2
    TOO_MANY_AT_ONCE = 3


REFUSALS: dict[Verdict, type[RateLimited]] = {
    Verdict.OVER_LIMIT: RateLimited,
    Verdict.OVER_QUOTA: QuotaExceeded,
    Verdict.TOO_MANY_AT_ONCE: TooManyConcurrentRequests,
}


@dataclass(frozen=True, slots=True)
class KeyGate:
    """A key that closes the door before anything is counted: when its value is above a number or, with `above` None,
    when it is not the run id of the Redis server that is asked.
    """

    key: str
    above: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the limiter says of one request; times are seconds, `resets_at` since the epoch.

    `refused` counts those of the window, this one included; `lease` is to be given back when the request ends.
    """

    tier: RequestLimit
    verdict: Verdict
    remaining: int
    burst_remaining: int
    resets_in: int
    resets_at: int
    refused: int = 0
    exact: bool = True
    lease: Lease | None = None

    @property
    def tier_name(self) -> str:
        """The name of the tier."""
        return self.tier.name

    @property
    def observed(self) -> bool:
        """Whether the request would have been refused if its limit did more than observe."""
        if self.verdict == Verdict.ADMITTED:
            return False
        return self.tier.observe_only if self.verdict == Verdict.OVER_LIMIT else self.tier.observe_totals

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that an admitted request has passed; the one that a limit only observes is not among them."""
        if self.verdict == Verdict.ADMITTED:
            return self.tier.steps
        observed = REASONS[REFUSALS[self.verdict].reason].step
        return tuple(step for step in self.tier.steps if step != observed)

    @property
    def admitted(self) -> bool:
        """Whether the request may pass."""
        return self.verdict == Verdict.ADMITTED or self.observed

    def headers(self) -> dict[str, str]:
        """Return X-RateLimit-* and the IETF draft's RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
        name, burst = self.tier.name, f"{self.tier.name}-burst"
        return {
            "X-RateLimit-Limit": str(self.tier.requests_per_minute),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.resets_at),
            "RateLimit-Policy": f'"{name}";q={self.tier.requests_per_minute};w={WINDOW_SECONDS}, '
            f'"{burst}";q={self.tier.burst_size};w={BURST_RENEWS_AFTER_SECONDS}',
            "RateLimit": f'"{name}";r={self.remaining};t={self.resets_in}, '
            f'"{burst}";r={self.burst_remaining};t={BURST_RENEWS_AFTER_SECONDS}',
        }

    def error(self) -> RateLimited:
        """Return the refusal: at the turn of the window, or of the day, the next request does pass."""
        return REFUSALS[self.verdict](details={"tier": self.tier.name}, retry_after=self.resets_in)


class GateClosed(Exception):
    """A gate was closed: `index` is its place in the sequence that was asked."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def admit(tier: RequestLimit, subject: str, *, gates: Sequence[KeyGate] = (), now: int | None = None) -> Decision:
    """Count one request of the subject (of `policy.keys`) and say whether it may pass, in one round trip.

    Raises GateClosed, with nothing counted, for the first closed gate, and RedisUnavailable when Redis cannot be had.
    """
    enabled = settings.ENV.RATE_LIMIT_ENABLED
    limit, quota, at_once = (
        (tier.requests_per_minute, tier.daily_quota, tier.concurrent_requests) if enabled else (0, 0, 0)
    )
    lease_id = secrets.token_hex(8) if at_once else ""
    names = [
        keys.rate(subject, tier.name),
        keys.quota(subject),
        keys.concurrent(subject),
        *(gate.key for gate in gates),
    ]
    observes = [int(tier.observe_only), int(tier.observe_totals)]
    numbers = [limit, tier.burst_size, "" if now is None else now, quota, at_once, lease_id, LEASE_MS, *observes]
    rules = [SERVER_RUN_ID if gate.above is None else gate.above for gate in gates]
    answer: list[int] = script(names, [*numbers, *rules])
    if answer[0] < 0:
        raise GateClosed(-answer[0] - 1)
    verdict, left, burst_left, resets_in, at, refused = answer
    decision = Decision(tier, Verdict(verdict), left, burst_left, resets_in, at + resets_in, refused=refused)
    if at_once and decision.admitted and verdict != Verdict.TOO_MANY_AT_ONCE:
        return dataclasses.replace(decision, lease=Lease(subject, lease_id))
    return decision


def admit_or_fall_back(tier: RequestLimit, subject: str) -> Decision:
    """Count one request; without Redis the process counts on its own (DESIGN, section 5: served, and bounded)."""
    try:
        return admit(tier, subject)
    except RedisUnavailable:
        return admit_locally(tier, subject)


def admit_locally(tier: RequestLimit, subject: str) -> Decision:
    """Count one request in this process alone; quota and concurrency, which span all of them, wait for Redis."""
    now = int(time.time())
    resets_in = WINDOW_SECONDS - now % WINDOW_SECONDS
    if not settings.ENV.RATE_LIMIT_ENABLED or not tier.requests_per_minute:
        return Decision(tier, Verdict.ADMITTED, 0, 0, resets_in, now + resets_in, exact=False)
    admitted, left, burst_left = fallback.admit(keys.rate(subject, tier.name), tier, now)
    verdict = Verdict.ADMITTED if admitted else Verdict.OVER_LIMIT
    return Decision(tier, verdict, left, burst_left, resets_in, now + resets_in, exact=False)
