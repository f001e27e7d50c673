"""A model of the rate limits, as plain as possible, which the limiters are compared with."""

from dataclasses import dataclass, field

from ratelimit.engine.limiter import Verdict
from ratelimit.engine.limits import ByteLimit, RequestLimit

DAY = 86_400
LEASE_SECONDS = 15


@dataclass
class PlainLimit:
    """One bucket; `admit` returns (admitted, left in the window, left of the burst). The clock must not go back."""

    tier: RequestLimit
    in_minute: dict[int, int] = field(default_factory=dict)
    burst_used: int = 0
    burst_last_used: int | None = None

    def admit(self, now: int) -> tuple[bool, int, int]:
        if self.burst_last_used is not None and now - self.burst_last_used >= 300:
            self.burst_used = 0
        minute = now // 60
        count = self.in_minute.get(minute, 0)
        if count < self.tier.requests_per_minute:
            self.in_minute[minute] = count + 1
        elif self.burst_used < self.tier.burst_size:
            self.burst_used, self.burst_last_used = self.burst_used + 1, now
        else:
            return False, 0, 0
        left = self.tier.requests_per_minute - self.in_minute[minute]
        return True, left, self.tier.burst_size - self.burst_used


class PlainLimiter:
    """The whole decision on a request, in its order: concurrency, then the quota of the day, then the rate.

    A limit in shadow mode gives its verdict and counts the request. `admit` returns (verdict, left, left of the burst).
    """

    def __init__(self, tier: RequestLimit) -> None:
        self.tier, self.rate = tier, PlainLimit(tier)
        self.of_day: dict[int, int] = {}
        self.ends: list[int] = []

    def admit(self, now: int) -> tuple[Verdict, int, int]:
        said = Verdict.ADMITTED
        self.ends = [end for end in self.ends if end > now]
        held = not self.tier.concurrent_requests or len(self.ends) < self.tier.concurrent_requests
        if not held:
            said = Verdict.TOO_MANY_AT_ONCE
        elif self.tier.daily_quota and self.of_day.get(now // DAY, 0) >= self.tier.daily_quota:
            said = Verdict.OVER_QUOTA
        if said != Verdict.ADMITTED and not self.tier.observe_totals:
            return said, 0, 0
        admitted, left, burst_left = self.rate.admit(now)
        if not admitted:
            said = Verdict.OVER_LIMIT
            if not self.tier.observe_only:
                return said, 0, 0
        self.of_day[now // DAY] = self.of_day.get(now // DAY, 0) + 1
        if held:
            self.ends.append(now + LEASE_SECONDS)
        return said, left, burst_left

    def release(self, index: int) -> None:
        del self.ends[index]


class PlainBucket:
    """A bucket of bytes that fills at a steady rate; its level may be negative up to the longest wait.

    `take` returns (ms to wait, or minus the ms until a retry can pass; level). The clock must not go back.
    """

    def __init__(self, tier: ByteLimit, longest_ms: int) -> None:
        self.rate, self.burst, self.longest = tier.bytes_per_second / 1000, tier.burst_bytes, longest_ms
        self.level, self.at = float(self.burst), 0

    def take(self, size: int, now: int) -> tuple[float, float]:
        level = min(self.burst, self.level + (now - self.at) * self.rate)
        wait = max(0.0, (size - level) / self.rate)
        if wait > self.longest:
            return self.longest - wait, level
        self.level, self.at = level - size, now
        return wait, self.level
