"""The tiers: how many requests a minute, and how many beyond that (the contract, section 5)."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings

WINDOW_SECONDS = 60
BURST_RENEWS_AFTER_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Tier:
    """A limit: `requests_per_minute` in each minute of the clock, then one of `burst_size` each.

    Over all tiers a subject may have `concurrent_requests` at a time and a `daily_quota`; 0 means without limit.
    With `observe_only` the rate refuses nobody, with `observe_totals` quota and concurrency do not.
    """

    name: str
    requests_per_minute: int
    burst_size: int
    concurrent_requests: int = 0
    daily_quota: int = 0
    observe_only: bool = False
    observe_totals: bool = False


@dataclass(frozen=True, slots=True)
class BandwidthTier:
    """A limit in bytes: a steady rate, and a burst."""

    name: str
    bytes_per_second: int
    burst_bytes: int
    observe_only: bool = False


@cache
def tier(name: str) -> Tier:
    """Return the tier of that name with the numbers of the environment; raise KeyError for an unknown one."""
    env = settings.ENV
    numbers = {
        "public": (env.RATE_LIMIT_REQUESTS_PER_MINUTE, env.RATE_LIMIT_BURST_SIZE),
        "authenticated": (
            env.RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE, env.RATE_LIMIT_AUTHENTICATED_BURST_SIZE
        ),
        "admin": (env.RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE, env.RATE_LIMIT_ADMIN_BURST_SIZE),
        "blockchain_query": (
            env.RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE, env.RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE
        ),
        "login_attempt": (
            env.RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE, env.RATE_LIMIT_LOGIN_ATTEMPT_BURST_SIZE
        ),
        # Counted in bytes: see bandwidth_tier.
        "chunk_upload": (0, 0),
    }  # fmt: skip
    limit, burst = numbers[name]
    by_address = name in ("public", "login_attempt")
    return Tier(
        name, limit, burst,
        concurrent_requests=0 if by_address else env.RATE_LIMIT_CONCURRENT_REQUESTS,
        daily_quota=0 if by_address else env.RATE_LIMIT_DAILY_QUOTA,
        observe_only=name in env.RATE_LIMIT_OBSERVE_ONLY,
    )  # fmt: skip


@cache
def bandwidth_tier() -> BandwidthTier:
    """Return the tier of chunk uploads with the numbers of the environment."""
    env = settings.ENV
    rate, burst = env.RATE_LIMIT_CHUNK_UPLOAD_BYTES_PER_SECOND, env.RATE_LIMIT_CHUNK_UPLOAD_BURST_BYTES
    return BandwidthTier("chunk_upload", rate, burst, "chunk_upload" in env.RATE_LIMIT_OBSERVE_ONLY)
