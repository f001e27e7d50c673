"""What a caller has used of its limits now, without counting anything."""

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from redis import Redis

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy import tiers
from ratelimit.engine import bandwidth, limiter
from ratelimit.engine.bandwidth import BandwidthDecision
from ratelimit.engine.limiter import Look
from ratelimit.engine.limits import RequestLimit
from ratelimit.rules import byte_limit_for
from ratelimit.throttling import AdminThrottle, AuthenticatedThrottle, MonitorThrottle, throttle_for

DAY = 86_400
# With these the limiter counts the requests of callers; the chunk upload tier counts bytes.
THROTTLES = (AuthenticatedThrottle, AdminThrottle, MonitorThrottle, throttle_for(tiers.BLOCKCHAIN_QUERY.name))


@dataclass(frozen=True, slots=True)
class TierUsage:
    """`limit` and `remaining` are requests per window, `burst` and `burst_remaining` requests beyond it.

    For chunk uploads, `limit` is in bytes per second, and both remainders are the bytes that may pass at once. The
    window ends, or all bytes are there again, at `resets_at`. `observe_only` says that nothing is refused.
    """

    tier: str
    limit: int
    remaining: int
    burst: int
    burst_remaining: int
    resets_at: datetime
    observe_only: bool


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """The requests of this day (UTC) over all tiers; without a quota, `limit` is None and nothing is counted."""

    limit: int | None
    used: int
    resets_at: datetime


@dataclass(frozen=True, slots=True)
class ConcurrentUsage:
    """The requests in progress over all tiers; without a limit, `limit` is None and nothing is counted."""

    limit: int | None
    used: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a caller has used; while rate limits are disabled there are no tiers and no limits."""

    tiers: tuple[TierUsage, ...]
    quota: QuotaUsage
    concurrent: ConcurrentUsage


def usage_of(caller: Caller) -> Usage:
    """Return what the user or API key has used of its limits, in one round trip to Redis; raise RedisUnavailable."""
    looks, upload = look_at_limits(caller)
    first = looks[0]
    limit, now = first.decision.limit, first.decision.resets_at - first.decision.resets_in
    enabled = settings.ENV.RATE_LIMIT_ENABLED
    quota, at_once = (limit.daily_quota or None, limit.concurrent_requests or None) if enabled else (None, None)
    return Usage(
        tiers=(*map(requests_used, looks), bytes_used(upload, now)) if enabled else (),
        quota=QuotaUsage(quota, first.used.today, time_of(now - now % DAY + DAY)),
        concurrent=ConcurrentUsage(at_once, first.used.in_progress),
    )


def look_at_limits(caller: Caller) -> tuple[list[Look], BandwidthDecision]:
    """Look at the limit of each tier that counts the caller's requests, and at that of its uploads."""
    limits, upload_limit = request_limits(caller), byte_limit_for(caller.bucket)

    def ask(redis: Redis) -> list[list[int]]:
        pipeline = redis.pipeline(transaction=False)
        for limit in limits:
            limiter.add_look(pipeline, limit, caller.subject)
        bandwidth.add_look(pipeline, upload_limit, caller.subject)
        return pipeline.execute()

    *answers, upload = redis_call(caller.subject, ask)
    looks = [limiter.read_look(limit, answer) for limit, answer in zip(limits, answers, strict=True)]
    return looks, bandwidth.read_decision(upload_limit, upload)


def request_limits(caller: Caller) -> list[RequestLimit]:
    """Return the limit of each tier that counts the caller's requests.

    Quota and concurrency only observe here: otherwise the script would say when they, and not the window, reset.
    """
    limits = {limit.name: limit for limit in (throttle.limit_for(caller) for throttle in THROTTLES)}
    return [dataclasses.replace(limit, observe_totals=True) for limit in limits.values()]


def requests_used(look: Look) -> TierUsage:
    """Return the usage of a tier that counts requests."""
    limit, used = look.decision.limit, look.used
    return TierUsage(
        tier=limit.name,
        limit=limit.requests_per_minute,
        remaining=max(0, limit.requests_per_minute - used.window),
        burst=limit.burst_size,
        burst_remaining=max(0, limit.burst_size - used.burst),
        resets_at=time_of(look.decision.resets_at),
        observe_only=limit.observe_only,
    )


def bytes_used(decision: BandwidthDecision, now: int) -> TierUsage:
    """Return the usage of chunk uploads at `now` (seconds since the epoch)."""
    limit, left = decision.limit, max(0, decision.level)
    return TierUsage(
        tier=limit.name,
        limit=limit.bytes_per_second,
        remaining=left,
        burst=limit.burst_bytes,
        burst_remaining=left,
        resets_at=time_of(now + decision.seconds_until_full),
        observe_only=limit.observe_only,
    )


def time_of(seconds: int) -> datetime:
    """Return the time (seconds since the epoch) in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
