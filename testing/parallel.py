"""The same call from many threads at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def in_parallel(count: int, call: Callable[[int], T]) -> list[T]:
    """Run `call(0)` ... `call(count - 1)`, all let go at the same moment; return what they returned, in order."""
    start = threading.Barrier(count)

    def run(index: int) -> T:
        start.wait()
        try:
            return call(index)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))
