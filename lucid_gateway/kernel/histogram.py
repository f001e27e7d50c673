"""Histograms of durations with fixed buckets, which are merged by adding them up, in all workers and gateways alike.

A histogram is a dictionary from the name of a bucket, its number as text, to a count. Bucket i ends at
SHORTEST * RATIO ** i seconds; the last one has no end.
"""

import math
from collections.abc import Mapping

SHORTEST, RATIO, BUCKETS = 0.0005, 1.2, 65
NAMES = tuple(str(number) for number in range(BUCKETS))
PER_BUCKET = 1 / math.log(RATIO)


def bucket_of(seconds: float) -> str:
    """Return the name of the bucket for a duration."""
    if seconds <= SHORTEST:
        return "0"
    return NAMES[min(math.ceil(math.log(seconds / SHORTEST) * PER_BUCKET), BUCKETS - 1)]


def percentile(histogram: Mapping[str, int], share: float) -> float | None:
    """Return the seconds within which `share` (0 to 1) of the durations ended, or None without any.

    The error is below 10 % for durations from half a millisecond to a minute.
    """
    rank, before = share * sum(histogram.values()), 0
    for number, name in enumerate(NAMES):
        count = histogram.get(name, 0)
        if count and before + count >= rank:
            return SHORTEST * math.pow(RATIO, number - 1 + (rank - before) / count)
        before += count
    return None
