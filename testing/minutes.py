"""The minutes of the clock, whose turn starts the limits anew, for tests with real gateways."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TRIES = 5


def in_one_minute(ask: Callable[[], T], seconds: float = 10) -> T:
    """Return what `ask` returns, once it began and ended in the same minute of the clock.

    It is called again where the minute turned, so each call must ask for somebody who has not asked for anything yet.
    It begins when the minute has `seconds` left, which is what it takes on a machine with nothing else to do.
    """
    for _ in range(TRIES):
        early_in_the_minute(seconds)
        minute = int(time.time()) // 60
        found = ask()
        if int(time.time()) // 60 == minute:
            return found
    raise AssertionError("none of the minutes was long enough")


def early_in_the_minute(seconds: float) -> None:
    """Return when the minute of the clock has that many seconds left."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.05)
