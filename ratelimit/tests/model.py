"""The rules of the contract's section 5, written down as plainly as possible, to judge the limiters by."""

from dataclasses import dataclass, field

from ratelimit.tiers import Tier


@dataclass
class PlainLimit:
    """One bucket; `admit` returns (admitted, left in the window, left of the burst) for a clock that only goes on."""

    tier: Tier
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
