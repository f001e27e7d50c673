"""Turns: what takes long lets the worker's other requests go on in between."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def give_way() -> None:
    """Let the worker's other requests have their turn. A timer, however short, makes gevent look at its sockets, which
    after sleep(0) it does not.
    """
    time.sleep(0.000_001)


def in_turns(rows: Iterable[T], every: int) -> Iterator[T]:
    """Yield the rows; before each so many others have their turn."""
    for number, row in enumerate(rows):
        if number % every == 0:
            give_way()
        yield row
