"""Answers that wait for the next tick."""

import time

import pytest

from accounts.login.equal_time import TICK_SECONDS, in_equal_time

TRIES = 10  # on a busy machine some of them wait longer


def ticks(work_seconds: float, *, fails: bool = False) -> float:
    """Return the smallest number of ticks that a function with so much work takes."""
    return min(ticks_of_one(work_seconds, fails=fails) for _ in range(TRIES))


def ticks_of_one(work_seconds: float, *, fails: bool) -> float:
    @in_equal_time
    def work() -> str:
        time.sleep(work_seconds)
        if fails:
            raise ValueError
        return "done"

    started = time.monotonic()
    if fails:
        with pytest.raises(ValueError):  # noqa: PT011  # the one above
            work()
    else:
        assert work() == "done"
    return (time.monotonic() - started) / TICK_SECONDS


@pytest.mark.parametrize("share", [0, 0.2, 0.6])
def test_work_shorter_than_a_tick_takes_one_tick(share: float) -> None:
    assert 1 <= ticks(share * TICK_SECONDS) < 1.9


def test_longer_work_waits_for_the_next_tick() -> None:
    assert 2 <= ticks(1.2 * TICK_SECONDS) < 2.9


def test_a_refusal_takes_as_long() -> None:
    assert 1 <= ticks(0, fails=True) < 1.9
