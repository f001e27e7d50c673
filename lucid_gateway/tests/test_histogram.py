"""Histograms of durations: percentiles within ten percent, and sums that do not depend on which worker counted."""

import math
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from lucid_gateway.kernel.histogram import NAMES, bucket_of, percentile


def histogram_of(durations: Iterable[float]) -> Counter[str]:
    return Counter(bucket_of(seconds) for seconds in durations)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_a_percentile_is_within_ten_percent(share: float) -> None:
    durations = sorted(random.Random(1).lognormvariate(-4, 1.2) for _ in range(5_000))
    exact = durations[math.ceil(share * len(durations)) - 1]

    assert percentile(histogram_of(durations), share) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("seconds", [0.0006, 0.001, 0.024, 1.0, 55.0])
def test_a_single_duration_is_within_twenty_percent_of_itself(seconds: float) -> None:
    assert percentile(histogram_of([seconds]), 0.5) == pytest.approx(seconds, rel=0.2)


def test_the_histograms_of_two_workers_add_up_to_that_of_all_requests() -> None:
    fast, slow = [0.002] * 95, [0.5] * 95

    together = histogram_of(fast) + histogram_of(slow)

    assert together == histogram_of(fast + slow)
    assert percentile(together, 0.95) == pytest.approx(0.5, rel=0.2)


def test_no_duration_is_too_short_or_too_long() -> None:
    assert [bucket_of(seconds) for seconds in (-1.0, 0.0, 1e9)] == ["0", "0", NAMES[-1]]


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile({}, 0.99) is None
