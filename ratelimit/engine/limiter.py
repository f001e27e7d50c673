"""The limiter: one atomic script on Redis decides for all workers and gateways."""

import dataclasses
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from django.conf import settings
from redis.client import Pipeline

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
ANSWER_LENGTH = 6  # of `admit.lua`, before what a look adds


class Verdict(IntEnum):
    """What the script decided; the numbers are those of `admit.lua`."""

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
    """A key that can refuse a request before it is counted: if its value is above a number or, with `above` None, if it
    is not the run id of the Redis server.
    """

    key: str
    above: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on one request. Times are in seconds, `resets_at` since the epoch.

    `refused` counts the refused requests of the window, this one included; `exact` is false if one process counted on
    its own; `lease` must be released when the request ends.
    """

    limit: RequestLimit
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
        return self.limit.name

    @property
    def observed(self) -> bool:
        """Whether the limit would have refused the request if it were not in shadow mode."""
        if self.verdict == Verdict.ADMITTED:
            return False
        return self.limit.observe_only if self.verdict == Verdict.OVER_LIMIT else self.limit.observe_totals

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that an admitted request has passed, without the one that shadow mode would have refused."""
        if self.verdict == Verdict.ADMITTED:
            return self.limit.steps
        observed = REASONS[REFUSALS[self.verdict].reason].step
        return tuple(step for step in self.limit.steps if step != observed)

    @property
    def admitted(self) -> bool:
        """Whether the request may pass."""
        return self.verdict == Verdict.ADMITTED or self.observed

    def headers(self) -> dict[str, str]:
        """Return X-RateLimit-* and the IETF draft's RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
        name, burst = self.limit.name, f"{self.limit.name}-burst"
        return {
            "X-RateLimit-Limit": str(self.limit.requests_per_minute),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.resets_at),
            "RateLimit-Policy": f'"{name}";q={self.limit.requests_per_minute};w={WINDOW_SECONDS}, '
            f'"{burst}";q={self.limit.burst_size};w={BURST_RENEWS_AFTER_SECONDS}',
            "RateLimit": f'"{name}";r={self.remaining};t={self.resets_in}, '
            f'"{burst}";r={self.burst_remaining};t={BURST_RENEWS_AFTER_SECONDS}',
        }

    def numbers(self) -> dict[str, Any]:
        """Return the numbers of the decision as JSON, for staff."""
        limit = self.limit
        return {
            "tier": limit.name, "rule": limit.rule, "limit": limit.requests_per_minute, "burst": limit.burst_size,
            "remaining": self.remaining, "burst_remaining": self.burst_remaining, "resets_at": self.resets_at,
            "refused": self.refused, "exact": self.exact, "daily_quota": limit.daily_quota,
            "concurrent_requests": limit.concurrent_requests, "totals_rule": limit.totals_rule,
        }  # fmt: skip

    def error(self) -> RateLimited:
        """Return the error for a refusal; its Retry-After is when the next window or day begins."""
        return REFUSALS[self.verdict](details={"tier": self.limit.name}, retry_after=self.resets_in)


@dataclass(frozen=True, slots=True)
class Used:
    """What a subject has used now: requests in this window and in the burst of one tier; over all tiers, requests of
    this day (UTC) and requests in progress. A number is 0 if no limit applies to it, because it is not counted then.
    """

    window: int
    burst: int
    today: int
    in_progress: int


@dataclass(frozen=True, slots=True)
class Look:
    """How the next request of a subject would be decided, and what the subject has used before it."""

    decision: Decision
    used: Used


class GateClosed(Exception):
    """A gate refused the request; `index` is its place in `gates`."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def admit(limit: RequestLimit, subject: str, *, gates: Sequence[KeyGate] = (), now: int | None = None) -> Decision:
    """Count one request of a subject (see `policy.keys`) and decide on it, in one round trip.

    Raises GateClosed for the first gate that refuses, with nothing counted, and RedisUnavailable.
    """
    lease_id = secrets.token_hex(8) if limit.concurrent_requests and settings.ENV.RATE_LIMIT_ENABLED else ""
    decision = read_decision(limit, script(*question(limit, subject, gates, now=now, lease_id=lease_id)))
    if lease_id and decision.admitted and decision.verdict != Verdict.TOO_MANY_AT_ONCE:
        return dataclasses.replace(decision, lease=Lease(subject, lease_id))
    return decision


def look(limit: RequestLimit, subject: str, *, gates: Sequence[KeyGate] = (), now: int | None = None) -> Look:
    """Return how `admit` would decide on the subject's next request, without a lease, and what the subject has used.

    This changes nothing in Redis. Raises GateClosed and RedisUnavailable.
    """
    return read_look(limit, script(*question(limit, subject, gates, now=now, look_only=True)))


def add_look(pipeline: Pipeline, limit: RequestLimit, subject: str) -> None:
    """Add a look without gates to the pipeline; `read_look` reads its result."""
    script.add_to(pipeline, *question(limit, subject, (), look_only=True))


def question(
    limit: RequestLimit,
    subject: str,
    gates: Sequence[KeyGate],
    *,
    now: int | None = None,
    lease_id: str = "",
    look_only: bool = False,
) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `admit.lua`."""
    per_minute, quota, at_once = (
        (limit.requests_per_minute, limit.daily_quota, limit.concurrent_requests)
        if settings.ENV.RATE_LIMIT_ENABLED
        else (0, 0, 0)
    )
    names = [keys.rate(subject, limit.name), keys.quota(subject), keys.concurrent(subject)]
    shadow = [int(limit.observe_only), int(limit.observe_totals)]
    numbers = [per_minute, limit.burst_size, "" if now is None else now, quota, at_once, lease_id, LEASE_MS, *shadow]
    rules = [SERVER_RUN_ID if gate.above is None else gate.above for gate in gates]
    return [*names, *(gate.key for gate in gates)], [*numbers, int(look_only), *rules]


def read_decision(limit: RequestLimit, answer: Sequence[int]) -> Decision:
    """Return the decision that `admit.lua` answered; raise GateClosed."""
    if answer[0] < 0:
        raise GateClosed(-answer[0] - 1)
    verdict, left, burst_left, resets_in, at, refused = answer[:ANSWER_LENGTH]
    return Decision(limit, Verdict(verdict), left, burst_left, resets_in, at + resets_in, refused=refused)


def read_look(limit: RequestLimit, answer: Sequence[int]) -> Look:
    """Return what the script answered to a look; raise GateClosed."""
    return Look(read_decision(limit, answer), Used(*answer[ANSWER_LENGTH:]))


def admit_or_fall_back(limit: RequestLimit, subject: str) -> Decision:
    """Count one request; while Redis is unavailable this process counts on its own."""
    try:
        return admit(limit, subject)
    except RedisUnavailable:
        return admit_locally(limit, subject)


def admit_locally(limit: RequestLimit, subject: str) -> Decision:
    """Count one request in this process only; quota and concurrency, which span all processes, do not apply."""
    now = int(time.time())
    resets_in = WINDOW_SECONDS - now % WINDOW_SECONDS
    if not settings.ENV.RATE_LIMIT_ENABLED or not limit.requests_per_minute:
        return Decision(limit, Verdict.ADMITTED, 0, 0, resets_in, now + resets_in, exact=False)
    admitted, left, burst_left = fallback.admit(keys.rate(subject, limit.name), limit, now)
    verdict = Verdict.ADMITTED if admitted else Verdict.OVER_LIMIT
    return Decision(limit, verdict, left, burst_left, resets_in, now + resets_in, exact=False)
