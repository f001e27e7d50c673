"""Limits: the numbers of a tier, from the environment or from an operator's rule."""

from dataclasses import dataclass
from functools import cache

from django.conf import settings

from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.tiers import CHUNK_UPLOAD, TIERS, Counts

RATE_ALONE = (Step.RATE_LIMIT,)


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """A subject may send `requests_per_minute` in each minute of the clock, and `burst_size` more; `name` is its tier.

    Over all tiers it may have `concurrent_requests` in progress and send `daily_quota` requests per day; 0 is no limit.
    Shadow mode refuses nothing: `observe_only` for the rate, `observe_totals` for the other two. `rule` and
    `totals_rule` are the subjects of the operators' rules that set the numbers: `everyone` for a rule without one,
    empty for the environment's numbers.
    """

    name: str
    requests_per_minute: int
    burst_size: int
    concurrent_requests: int = 0
    daily_quota: int = 0
    observe_only: bool = False
    observe_totals: bool = False
    rule: str = ""
    totals_rule: str = ""

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that a request passes under this limit."""
        if not self.concurrent_requests and not self.daily_quota:
            return RATE_ALONE
        quota = (Step.QUOTA,) if self.daily_quota else ()
        return (*RATE_ALONE, *quota, *((Step.CONCURRENCY,) if self.concurrent_requests else ()))


@dataclass(frozen=True, slots=True)
class ByteLimit:
    """A steady rate and a burst, in bytes; `name` is the tier's."""

    name: str
    bytes_per_second: int
    burst_bytes: int
    observe_only: bool = False
    rule: str = ""


@cache
def default_limit(name: str) -> RequestLimit:
    """Return the environment's limit for a tier; raise KeyError for an unknown tier.

    A tier that counts bytes does not limit requests.
    """
    env, tier = settings.ENV, TIERS[name]
    rate, burst = (
        (getattr(env, tier.rate_setting), getattr(env, tier.burst_setting)) if tier.counts_requests else (0, 0)
    )
    has_totals = tier.subject == Counts.CALLER
    return RequestLimit(
        name, rate, burst,
        concurrent_requests=env.RATE_LIMIT_CONCURRENT_REQUESTS if has_totals else 0,
        daily_quota=env.RATE_LIMIT_DAILY_QUOTA if has_totals else 0,
        observe_only=name in env.RATE_LIMIT_OBSERVE_ONLY,
    )  # fmt: skip


@cache
def default_byte_limit() -> ByteLimit:
    """Return the environment's limit for chunk uploads."""
    env, tier = settings.ENV, CHUNK_UPLOAD
    rate, burst = getattr(env, tier.rate_setting), getattr(env, tier.burst_setting)
    return ByteLimit(tier.name, rate, burst, tier.name in env.RATE_LIMIT_OBSERVE_ONLY)
