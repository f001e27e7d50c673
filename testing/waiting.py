"""One way to wait for something that happens elsewhere: in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float = 60, *, every: float = 0.01) -> T:
    """Return what the condition returns as soon as that is true; raise AssertionError if it never is in that time.

    `every` is the pause between two calls, in seconds.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {seconds} seconds")
        time.sleep(every)
    return found
