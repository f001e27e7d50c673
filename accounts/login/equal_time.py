"""Answers whose time does not reveal what was found: after the work they wait for the next tick."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
# Longer than the work of a login, so that the wait hides the differences.
TICK_SECONDS = 0.025


def in_equal_time(work: Callable[P, R]) -> Callable[P, R]:
    """Make a function return, or raise, a whole number of ticks after the call."""

    @functools.wraps(work)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        started = time.monotonic()
        try:
            return work(*args, **kwargs)
        finally:
            wait_for_tick(started)

    return timed


def wait_for_tick(started: float) -> None:
    """Sleep until the next tick since `started`; other requests go on meanwhile."""
    ticks = (time.monotonic() - started) // TICK_SECONDS + 1
    ends = started + ticks * TICK_SECONDS
    while (left := ends - time.monotonic()) > 0:
        time.sleep(left)
