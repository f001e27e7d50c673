"""The files in which prometheus_client counts, with space reserved before each write.

prometheus_client creates and enlarges a file without reserving space for it; if the space runs out, a write ends the
process (SIGBUS). Here the space is reserved first. A process that gets none counts in its own memory: the other
processes do not see those counts, and nothing else is lost.
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
# The bytes of an entry without its key, including padding.
ENTRY_BYTES = 32


class ReservedDict(MmapedDict):
    """prometheus_client's dictionary of numbers in a file; `shared` says whether the file is still in use."""

    def __init__(self, filename: str) -> None:
        path, self.shared = Path(filename), True
        try:
            allocate(path, max(FIRST_SIZE, path.stat().st_size if path.exists() else 0))
            super().__init__(filename)  # type: ignore[no-untyped-call]
        except OSError:
            self._positions: dict[str, int] = {}
            self._used = 8
            self._f = None  # type: ignore[assignment]  # as the base class does in `close`
            self._m = mmap.mmap(-1, FIRST_SIZE)
            self._capacity = FIRST_SIZE
            self.stop_sharing()

    def _init_value(self, key: str) -> None:
        """Add a key; if the file is full, enlarge it first."""
        while self._used + len(key.encode()) + ENTRY_BYTES > self._capacity:
            self.grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def grow(self) -> None:
        """Double the capacity, in the file or, without space for it, in memory."""
        try:
            if not self.shared:
                raise OSError("the file is no longer in use")
            os.posix_fallocate(self._f.fileno(), self._capacity, self._capacity)
            self._m = mmap.mmap(self._f.fileno(), 2 * self._capacity)
        except OSError:
            content = self._m[: self._used]
            self._m = mmap.mmap(-1, 2 * self._capacity)
            self._m[: self._used] = content
            self.stop_sharing()
        self._capacity *= 2

    def stop_sharing(self) -> None:
        if self.shared:
            logger.warning("no space for metrics: from now on, only this process sees its own counts")
        self.shared = False


def use_reserved_files() -> None:
    """Let prometheus_client use ReservedDict; call this before the first metric is created."""
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined,assignment]
