"""The limiter of last resort: one process, in memory, for while Redis cannot be had."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from lucid_gateway.policy.tiers import BURST_RENEWS_AFTER_SECONDS, WINDOW_SECONDS
from ratelimit.engine.limits import RequestLimit

MAX_BUCKETS = 50_000


@dataclass(slots=True)
class Bucket:
    window: int = 0
    count: int = 0
    burst_used: int = 0
    burst_used_at: int = 0


class LocalLimiter:
    """The same rules as `admit.lua`; the least recently used buckets go when there are too many."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget all that was counted."""
        with self._lock:
            self._buckets.clear()

    def admit(self, key: str, tier: RequestLimit, now: int) -> tuple[bool, int, int]:
        """Count one request at `now` (seconds since the epoch); return admitted, window left, burst left."""
        with self._lock:
            bucket = self._buckets.setdefault(key, Bucket())
            self._buckets.move_to_end(key)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            return take(bucket, tier, now)


def take(bucket: Bucket, tier: RequestLimit, now: int) -> tuple[bool, int, int]:
    """Take one request out of the bucket, the window before the burst."""
    window = now - now % WINDOW_SECONDS
    if bucket.window != window:
        bucket.window, bucket.count = window, 0
    if now - bucket.burst_used_at >= BURST_RENEWS_AFTER_SECONDS:
        bucket.burst_used = 0
    if bucket.count < tier.requests_per_minute:
        bucket.count += 1
    elif bucket.burst_used < tier.burst_size:
        bucket.burst_used, bucket.burst_used_at = bucket.burst_used + 1, now
    else:
        return False, 0, 0
    # The numbers may have been lowered since some were used up.
    return True, max(0, tier.requests_per_minute - bucket.count), max(0, tier.burst_size - bucket.burst_used)
