"""The last minute: how long requests count, and how accurate its percentiles are."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_gateway.kernel.metrics_files.last_minute import Minute, Ring, cells_of, is_over, read_minute

DURATIONS = st.lists(st.floats(0.0002, 500), min_size=1, max_size=50)


def ring_of(*requests: tuple[int, float]) -> Ring:
    """Return a ring that has counted requests, each a pair of its second and its duration."""
    ring = Ring()
    for now, seconds in requests:
        ring.note(seconds, failed=False, now=now)
    return ring


@given(DURATIONS, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1]))
def test_a_percentile_is_accurate_within_five_percent(durations: list[float], share: float) -> None:
    minute = read_minute([ring_of(*((1000, seconds) for seconds in durations)).cells], 1000)
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]

    assert minute.percentile(share) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("now", "requests"), [(999, 0), (1000, 1), (1059, 1), (1060, 0), (1064, 0)])
def test_a_request_counts_for_a_minute(now: int, requests: int) -> None:
    assert read_minute([ring_of((1000, 0.1)).cells], now).requests == requests


def test_a_reused_slot_starts_empty() -> None:
    assert read_minute([ring_of((1000, 0.1), (1064, 0.1)).cells], 1064).requests == 1


def test_rings_are_added_up() -> None:
    first, second = ring_of((1000, 0.1), (1001, 0.1)), ring_of((1030, 0.2))
    second.note(0.3, failed=True, now=1040)
    minute = read_minute([first.cells, second.cells], 1040)

    assert (minute.requests, minute.failures, minute.error_rate) == (4, 1, 0.25)
    assert minute.requests_per_second == 4 / 60


def test_the_figures_of_an_empty_minute_are_zero() -> None:
    assert (Minute().requests_per_second, Minute().error_rate, Minute().percentile(0.5)) == (0, 0, 0)


def test_the_shortest_and_longest_durations_have_a_bucket() -> None:
    assert read_minute([ring_of((1000, 0.0), (1000, 1e9)).cells], 1000).requests == 2


def test_other_processes_can_read_a_ring(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    assert is_over_after_creation(path)
    Ring(path).note(0.1, failed=True)

    assert not is_over(path)
    assert read_minute([memoryview(cells_of(path))]).failures == 1


def is_over_after_creation(path: Path) -> bool:
    Ring(path)
    return is_over(path)
