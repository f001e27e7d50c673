"""The files in which prometheus_client counts, with room for each byte before it is written.

prometheus_client makes and enlarges a file without taking the room for it; where there is none, the write that meets
the lack ends the process (SIGBUS). Here the room is taken first, and a process that gets none counts in its own memory:
nobody else sees those counts, and nothing else is lost.
"""

import logging
import mmap
import os
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from lucid_gateway.kernel.metrics_files.directory import allocate

logger = logging.getLogger(__name__)
FIRST_SIZE = 1 << 16
# What an entry takes beside its key, padding included.
OF_AN_ENTRY = 32


class ReservedDict(MmapedDict):
    """prometheus_client's dictionary of numbers in a file; `shared` says whether it still is in the file."""

    def __init__(self, filename: str) -> None:
        path, self.shared = Path(filename), True
        try:
            allocate(path, max(FIRST_SIZE, path.stat().st_size if path.exists() else 0))
            super().__init__(filename)  # type: ignore[no-untyped-call]
        except OSError:
            self._positions: dict[str, int] = {}
            self._used = 8
            self._f = None  # type: ignore[assignment]  # as the base class does when it is closed
            self._m = mmap.mmap(-1, FIRST_SIZE)
            self._capacity = FIRST_SIZE
            self.keep_to_itself()

    def _init_value(self, key: str) -> None:
        """Add a key, after enlarging the file if it is full."""
        while self._used + len(key.encode()) + OF_AN_ENTRY > self._capacity:
            self.grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def grow(self) -> None:
        """Double the room, in the file or, if there is none, in memory."""
        try:
            if not self.shared:
                raise OSError("not in the file any more")
            os.posix_fallocate(self._f.fileno(), self._capacity, self._capacity)
            self._m = mmap.mmap(self._f.fileno(), 2 * self._capacity)
        except OSError:
            content = self._m[: self._used]
            self._m = mmap.mmap(-1, 2 * self._capacity)
            self._m[: self._used] = content
            self.keep_to_itself()
        self._capacity *= 2

    def keep_to_itself(self) -> None:
        """Note that from now on only this process sees what it counts."""
        if self.shared:
            logger.warning("no room for metrics: this process keeps to itself what it counts from now on")
        self.shared = False


def reserve_room() -> None:
    """Let prometheus_client use such files; called before the first metric is made."""
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined,assignment]
