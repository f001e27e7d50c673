"""The limiter without Redis: the same rules in one process, with bounded memory."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.engine import local
from ratelimit.engine.limits import RequestLimit
from ratelimit.engine.local import LocalLimiter
from ratelimit.tests.model import PlainLimit

SMALL = RequestLimit("small", requests_per_minute=3, burst_size=2)
START = 1_700_000_050


@given(
    limit=st.integers(1, 5),
    burst=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from([0, 1, 20, 59, 60, 61, 240, 299, 300, 301]), st.integers(1, 8))),
)
def test_the_local_limiter_agrees_with_the_model(limit: int, burst: int, steps: list[tuple[int, int]]) -> None:
    tier = RequestLimit("model", limit, burst)
    plain, limiter, now = PlainLimit(tier), LocalLimiter(), START

    for seconds, requests in steps:
        now += seconds
        for _ in range(requests):
            assert limiter.admit("key", tier, now) == plain.admit(now)


def test_each_key_has_its_own_bucket() -> None:
    limiter = LocalLimiter()

    assert sum(limiter.admit("one", SMALL, START)[0] for _ in range(10)) == 5
    assert sum(limiter.admit("two", SMALL, START)[0] for _ in range(10)) == 5


def test_remaining_is_zero_and_not_negative_after_a_limit_was_lowered() -> None:
    limiter = LocalLimiter()
    for _ in range(12):
        limiter.admit("key", RequestLimit("small", 10, 4), START)

    assert limiter.admit("key", RequestLimit("small", 5, 3), START) == (True, 0, 0)
    assert limiter.admit("key", RequestLimit("small", 5, 1), START + 60) == (True, 4, 0)


def test_concurrent_threads_are_admitted_exactly_up_to_the_limit() -> None:
    limiter, tier = LocalLimiter(), RequestLimit("busy", 300, 100)
    admitted: list[bool] = []

    def knock() -> None:
        for _ in range(100):
            admitted.append(limiter.admit("key", tier, START)[0])

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(admitted) == 400


def test_the_least_recently_used_bucket_is_dropped_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_BUCKETS", 3)
    limiter = LocalLimiter()
    for key in ("one", "two", "three", "one", "four"):
        limiter.admit(key, SMALL, START)

    assert limiter.admit("one", SMALL, START)[1] == 0
    assert limiter.admit("two", SMALL, START)[1] == 2
    assert len(limiter._buckets) == 3
