"""The limiter of one process, in memory, used while Redis is unavailable."""

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
    """Applies the rules of `admit.lua`; the least recently used buckets are dropped when there are too many."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._buckets.clear()

    def admit(self, key: str, limit: RequestLimit, now: int) -> tuple[bool, int, int]:
        """Count one request at `now` (seconds since the epoch); return admitted, window left, burst left."""
        with self._lock:
            bucket = self._buckets.setdefault(key, Bucket())
            self._buckets.move_to_end(key)
            if len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
            return take(bucket, limit, now)


def take(bucket: Bucket, limit: RequestLimit, now: int) -> tuple[bool, int, int]:
    """Take one request out of the bucket, the window before the burst."""
    window = now - now % WINDOW_SECONDS
    if bucket.window != window:
        bucket.window, bucket.count = window, 0
    if now - bucket.burst_used_at >= BURST_RENEWS_AFTER_SECONDS:
        bucket.burst_used = 0
    if bucket.count < limit.requests_per_minute:
        bucket.count += 1
    elif bucket.burst_used < limit.burst_size:
        bucket.burst_used, bucket.burst_used_at = bucket.burst_used + 1, now
    else:
        return False, 0, 0
    # The limit may have been lowered since the bucket was used.
    return True, max(0, limit.requests_per_minute - bucket.count), max(0, limit.burst_size - bucket.burst_used)
