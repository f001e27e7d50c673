"""Cooperative yields: long computations let the worker's other requests run in between."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def let_others_run() -> None:
    """Yield to the worker's other requests. A timer, however short, makes gevent poll sockets; sleep(0) does not."""
    time.sleep(0.000_001)


def letting_others_run(rows: Iterable[T], every: int) -> Iterator[T]:
    """Yield the rows, and let other requests run before every `every` rows."""
    for number, row in enumerate(rows):
        if number % every == 0:
            let_others_run()
        yield row
