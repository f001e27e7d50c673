"""The bandwidth limit: uploads are counted in bytes as they are read, over all gateways together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from redis.client import Pipeline

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import BandwidthExceeded
from lucid_gateway.policy.reasons import Step
from ratelimit.engine.limits import ByteLimit
from ratelimit.engine.shadow import note_shadow_refusal

script = RedisScript(Path(__file__).parent / "bandwidth.lua")
# An upload that would have to wait longer is refused.
LONGEST_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BandwidthDecision:
    """The decision on some bytes; `wait` is the seconds until they may pass or, if refused, until a retry can pass."""

    limit: ByteLimit
    admitted: bool
    wait: float
    level: int

    steps: ClassVar = (Step.BANDWIDTH,)

    @property
    def tier_name(self) -> str:
        """The name of the tier."""
        return self.limit.name

    @property
    def seconds_until_full(self) -> int:
        """Seconds until the bucket is full again."""
        return max(0, -(-(self.limit.burst_bytes - self.level) // self.limit.bytes_per_second))

    def headers(self) -> dict[str, str]:
        """Return X-RateLimit-* and the IETF draft's fields, in bytes."""
        name, left, full_in = self.limit.name, max(0, self.level), self.seconds_until_full
        window = max(1, -(-self.limit.burst_bytes // self.limit.bytes_per_second))
        return {
            "X-RateLimit-Limit": str(self.limit.bytes_per_second),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(int(time.time()) + full_in),
            "RateLimit-Policy": f'"{name}";q={self.limit.burst_bytes};w={window};qu="content-bytes"',
            "RateLimit": f'"{name}";r={left};t={full_in}',
        }

    def numbers(self) -> dict[str, Any]:
        """Return the numbers of the decision as JSON, in bytes, for staff."""
        return {
            "tier": self.limit.name, "rule": self.limit.rule, "limit": self.limit.bytes_per_second,
            "burst": self.limit.burst_bytes, "remaining": max(0, self.level),
            "resets_at": int(time.time()) + self.seconds_until_full,
        }  # fmt: skip

    def error(self) -> BandwidthExceeded:
        """Return the error for a refusal."""
        seconds = max(1, -int(-self.wait // 1))
        return BandwidthExceeded(details={"tier": self.limit.name}, retry_after=seconds)


class LocalBuckets:
    """The buckets of one process, used while Redis is unavailable."""

    def __init__(self) -> None:
        self.levels: dict[str, tuple[float, float]] = {}

    def take(self, limit: ByteLimit, subject: str, size: int) -> BandwidthDecision:
        """Take bytes out of the subject's bucket."""
        now = time.monotonic()
        if len(self.levels) > 10_000:
            self.levels.clear()
        level, at = self.levels.get(subject, (float(limit.burst_bytes), now))
        level = min(limit.burst_bytes, level + (now - at) * limit.bytes_per_second)
        wait = max(0.0, (size - level) / limit.bytes_per_second)
        if wait > LONGEST_WAIT_SECONDS:
            return BandwidthDecision(limit, False, wait - LONGEST_WAIT_SECONDS, int(level))
        self.levels[subject] = level - size, now
        return BandwidthDecision(limit, True, wait, int(level - size))


local = LocalBuckets()


def take(limit: ByteLimit, subject: str, size: int, *, now_ms: int | None = None) -> BandwidthDecision:
    """Take `size` bytes out of the subject's bucket, unless they would have to wait longer than two seconds."""
    try:
        return read_decision(limit, script(*question(limit, subject, size, now_ms=now_ms)))
    except RedisUnavailable:
        return local.take(limit, subject, size)


def look(limit: ByteLimit, subject: str, *, now_ms: int | None = None) -> BandwidthDecision:
    """Return how `take` would decide on the start of the subject's next upload, and change nothing in Redis.

    Raises RedisUnavailable.
    """
    return read_decision(limit, script(*question(limit, subject, 0, now_ms=now_ms, look_only=True)))


def add_look(pipeline: Pipeline, limit: ByteLimit, subject: str) -> None:
    """Add a look to the pipeline; `read_decision` reads its result."""
    script.add_to(pipeline, *question(limit, subject, 0, look_only=True))


def question(
    limit: ByteLimit, subject: str, size: int, *, now_ms: int | None = None, look_only: bool = False
) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `bandwidth.lua`."""
    longest = int(LONGEST_WAIT_SECONDS * 1000)
    now: int | str = "" if now_ms is None else now_ms
    numbers = [limit.bytes_per_second, limit.burst_bytes, size, longest, now, int(look_only)]
    return [keys.bandwidth(subject, limit.name)], numbers


def read_decision(limit: ByteLimit, answer: Sequence[int]) -> BandwidthDecision:
    """Return the decision that `bandwidth.lua` answered."""
    wait, level = answer
    return BandwidthDecision(limit, wait >= 0, abs(wait) / 1000, level)


class MeteredInput:
    """A request's body that is read no faster than its limit admits."""

    def __init__(self, source: Any, limit: ByteLimit, subject: str) -> None:
        self.source, self.limit, self.subject = source, limit, subject

    def read(self, size: int = -1, /) -> bytes:
        """Count and return the next bytes after the wait that the limit demands; raise BandwidthExceeded.

        The wait slows the client down, because nothing is read from it meanwhile.
        """
        enabled = settings.ENV.RATE_LIMIT_ENABLED
        if enabled and not self.limit.observe_only and size > 0:
            # A larger piece would have to wait too long, however often the client tries.
            size = min(size, self.limit.bytes_per_second)
        piece: bytes = self.source.read(size)
        if piece and enabled:
            decision = take(self.limit, self.subject, len(piece))
            if self.limit.observe_only:
                if decision.wait:
                    note_shadow_refusal(self.limit.name, self.subject)
                return piece
            if not decision.admitted:
                raise decision.error()
            time.sleep(decision.wait)
        return piece
