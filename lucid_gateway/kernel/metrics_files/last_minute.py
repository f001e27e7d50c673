"""The last minute of a worker's requests: a ring of seconds with their failures and a histogram of durations.

Each worker writes its own file in the metrics directory and can read all of them. The layout: for each of `SLOTS`
seconds, the second (of the machine's monotonic clock, which all processes share), the failures and the buckets, as
unsigned 32-bit integers. Each file has only one writer, so there are no locks.
"""

import itertools
import math
import mmap
import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lucid_gateway.kernel.metrics_files.directory import allocate

WINDOW_SECONDS = 60
SLOTS = 64
# Bucket i ends at SHORTEST * RATIO ** (i + 1) seconds, the last after ten minutes; its middle is accurate within 5 %.
SHORTEST, RATIO = 0.0001, 1.1
BUCKETS = 164
LOG_RATIO = math.log(RATIO)
WIDTH = 2 + BUCKETS
EMPTY = memoryview(array("I", bytes(4 * WIDTH)))
FILES = "last_minute_*.bin"


@dataclass(frozen=True, slots=True)
class Minute:
    """The workers' requests in the last minute by duration bucket, and how many of them failed (5xx)."""

    buckets: tuple[int, ...] = (0,) * BUCKETS
    failures: int = 0

    @property
    def requests(self) -> int:
        return sum(self.buckets)

    @property
    def requests_per_second(self) -> float:
        return self.requests / WINDOW_SECONDS

    @property
    def error_rate(self) -> float:
        """The share of failed requests, from 0 to 1; 0 without requests."""
        return self.failures / self.requests if self.requests else 0.0

    def percentile(self, share: float) -> float:
        """Return the seconds within which `share` (0 to 1) of the requests ended, within 5 %; 0 without requests."""
        rank = math.ceil(share * self.requests)
        for bucket, done in enumerate(itertools.accumulate(self.buckets)):
            if 0 < rank <= done:
                return SHORTEST * math.pow(RATIO, bucket + 0.5)
        return 0.0


class Ring:
    """The seconds that this process writes, in a file or, without `path`, in its own memory."""

    def __init__(self, path: Path | None = None) -> None:
        size = 4 * SLOTS * WIDTH
        self.cells = memoryview(bytearray(size) if path is None else mapped(path, size)).cast("I")

    def note(self, seconds: float, *, failed: bool, n: int = 1, now: int | None = None) -> None:
        """Count `n` requests that took `seconds` each."""
        second = int(time.monotonic()) if now is None else now
        cells, at = self.cells, second % SLOTS * WIDTH
        if cells[at] != second:
            cells[at : at + WIDTH] = EMPTY
            cells[at] = second
        cells[at + 1] += failed * n
        cells[at + 2 + bucket_of(seconds)] += n


def bucket_of(seconds: float) -> int:
    if seconds <= SHORTEST:
        return 0
    return min(int(math.log(seconds / SHORTEST) / LOG_RATIO), BUCKETS - 1)


def mapped(path: Path, size: int) -> mmap.mmap:
    """Return `size` bytes of a file as memory; raise OSError if there is no space for them."""
    allocate(path, size)
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), size)


def seconds_of(cells: "array[int] | memoryview[int]", now: int) -> Iterator["array[int] | memoryview[int]"]:
    """Yield the failures and buckets of each second of the last minute."""
    for at in range(0, SLOTS * WIDTH, WIDTH):
        if now - WINDOW_SECONDS < cells[at] <= now:
            yield cells[at + 1 : at + WIDTH]


def read_minute(rings: Iterable["array[int] | memoryview[int]"], now: int | None = None) -> Minute:
    """Return the last minute, added up over the cells of several rings."""
    second = int(time.monotonic()) if now is None else now
    columns = [
        sum(column) for column in zip(*(row for cells in rings for row in seconds_of(cells, second)), strict=True)
    ]
    return Minute(tuple(columns[1:]), columns[0]) if columns else Minute()


def cells_of(path: Path) -> "array[int]":
    """Return the cells in a ring's file; raise OSError or ValueError."""
    return array("I", path.read_bytes())


def is_over(path: Path) -> bool:
    """Return whether a ring's file has nothing from the last minute."""
    return not any(seconds_of(cells_of(path), int(time.monotonic())))
