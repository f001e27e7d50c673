"""Uploads counted in bytes, as they are read, over the whole fleet."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import BandwidthExceeded
from lucid_gateway.policy.reasons import Step
from ratelimit.engine.limits import ByteLimit
from ratelimit.engine.shadow import observed

script = RedisScript(Path(__file__).parent / "bandwidth.lua")
# How long an upload is slowed before it is refused.
LONGEST_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BandwidthDecision:
    """What the limiter says of some bytes; `wait` is seconds, before they may pass or a retry is worth it."""

    tier: ByteLimit
    admitted: bool
    wait: float
    level: int

    steps: ClassVar = (Step.BANDWIDTH,)

    @property
    def tier_name(self) -> str:
        """The name of the tier."""
        return self.tier.name

    @property
    def seconds_until_full(self) -> int:
        """Seconds until the whole burst is there again."""
        return max(0, -(-(self.tier.burst_bytes - self.level) // self.tier.bytes_per_second))

    def headers(self) -> dict[str, str]:
        """Return X-RateLimit-* and the IETF draft's fields, in bytes."""
        name, left, full_in = self.tier.name, max(0, self.level), self.seconds_until_full
        window = max(1, -(-self.tier.burst_bytes // self.tier.bytes_per_second))
        return {
            "X-RateLimit-Limit": str(self.tier.bytes_per_second),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(int(time.time()) + full_in),
            "RateLimit-Policy": f'"{name}";q={self.tier.burst_bytes};w={window};qu="content-bytes"',
            "RateLimit": f'"{name}";r={left};t={full_in}',
        }

    def error(self) -> BandwidthExceeded:
        """Return the refusal."""
        seconds = max(1, -int(-self.wait // 1))
        return BandwidthExceeded(details={"tier": self.tier.name}, retry_after=seconds)


class LocalBuckets:
    """The buckets of one process, for while Redis cannot be had."""

    def __init__(self) -> None:
        self.levels: dict[str, tuple[float, float]] = {}

    def take(self, tier: ByteLimit, subject: str, size: int) -> BandwidthDecision:
        """Take bytes out of the subject's bucket."""
        now = time.monotonic()
        if len(self.levels) > 10_000:
            self.levels.clear()
        level, at = self.levels.get(subject, (float(tier.burst_bytes), now))
        level = min(tier.burst_bytes, level + (now - at) * tier.bytes_per_second)
        wait = max(0.0, (size - level) / tier.bytes_per_second)
        if wait > LONGEST_WAIT_SECONDS:
            return BandwidthDecision(tier, False, wait - LONGEST_WAIT_SECONDS, int(level))
        self.levels[subject] = level - size, now
        return BandwidthDecision(tier, True, wait, int(level - size))


local = LocalBuckets()


def take(tier: ByteLimit, subject: str, size: int, *, now_ms: int | None = None) -> BandwidthDecision:
    """Take `size` bytes out of the subject's bucket: they may pass after `wait` seconds, or not soon enough at all."""
    longest = int(LONGEST_WAIT_SECONDS * 1000)
    numbers = [tier.bytes_per_second, tier.burst_bytes, size, longest, "" if now_ms is None else now_ms]
    try:
        wait, level = script([keys.bandwidth(subject, tier.name)], numbers)
    except RedisUnavailable:
        return local.take(tier, subject, size)
    return BandwidthDecision(tier, wait >= 0, abs(wait) / 1000, level)


class MeteredInput:
    """A request's body that is read no faster than its owner may send it."""

    def __init__(self, source: Any, tier: ByteLimit, subject: str) -> None:
        self.source, self.tier, self.subject = source, tier, subject

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, counted, after the wait that they cost; raise BandwidthExceeded.

        The wait is what slows the client: nothing more is read from it meanwhile.
        """
        enabled = settings.ENV.RATE_LIMIT_ENABLED
        if enabled and not self.tier.observe_only and size > 0:
            # What takes longer than one may wait would never pass.
            size = min(size, self.tier.bytes_per_second)
        piece: bytes = self.source.read(size)
        if piece and enabled:
            decision = take(self.tier, self.subject, len(piece))
            if self.tier.observe_only:
                if decision.wait:
                    observed(self.tier.name, self.subject)
                return piece
            if not decision.admitted:
                raise decision.error()
            time.sleep(decision.wait)
        return piece
