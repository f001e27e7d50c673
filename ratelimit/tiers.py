"""The tiers: how many requests a minute, and how many beyond that (the contract, section 5)."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings

WINDOW_SECONDS = 60
BURST_RENEWS_AFTER_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Tier:
    """A limit: `requests_per_minute` in each minute of the clock, then one of `burst_size` each."""

    name: str
    requests_per_minute: int
    burst_size: int


@cache
def tier(name: str) -> Tier:
    """Return the tier of that name with the numbers of the environment; raise KeyError for an unknown one."""
    env = settings.ENV
    tiers = {
        "public": Tier("public", env.RATE_LIMIT_REQUESTS_PER_MINUTE, env.RATE_LIMIT_BURST_SIZE),
        "authenticated": Tier(
            "authenticated", env.RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE, env.RATE_LIMIT_AUTHENTICATED_BURST_SIZE
        ),
        "admin": Tier("admin", env.RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE, env.RATE_LIMIT_ADMIN_BURST_SIZE),
        "blockchain_query": Tier(
            "blockchain_query",
            env.RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE,
            env.RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE,
        ),
        "login_attempt": Tier(
            "login_attempt", env.RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE, env.RATE_LIMIT_LOGIN_ATTEMPT_BURST_SIZE
        ),
    }
    return tiers[name]
