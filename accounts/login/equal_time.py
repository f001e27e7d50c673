"""Answers that take the same time whatever was found: they wait for the next tick after their work is done."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
# Longer than a login's work takes, so that what that differs by disappears in the wait.
TICK_SECONDS = 0.025


def in_equal_time(work: Callable[P, R]) -> Callable[P, R]:
    """Let a function return, or raise, a whole number of ticks after it was called."""

    @functools.wraps(work)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        started = time.monotonic()
        try:
            return work(*args, **kwargs)
        finally:
            wait_for_tick(started)

    return timed


def wait_for_tick(started: float) -> None:
    """Return when the next tick since `started` has come; other requests go on meanwhile."""
    ticks = (time.monotonic() - started) // TICK_SECONDS + 1
    ends = started + ticks * TICK_SECONDS
    while (left := ends - time.monotonic()) > 0:
        time.sleep(left)
