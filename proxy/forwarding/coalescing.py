"""Requests for the same in one worker: one leads and asks the cluster, the others wait for what comes of it."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator

ALONE_SECONDS = 10.0
MAX_ALONE = 10_000


class Flights:
    """What is being asked for at this moment, and for what nobody waits: its answers were not kept lately."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, threading.Event] = {}
        self._alone: OrderedDict[int, float] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lead_or_wait(self, key: Hashable, *, seconds: float) -> Iterator[bool]:
        """Yield True to the first, whom the block makes the leader. Others wait for the end of the leader's block,
        however it ends, but for so many seconds at most, and get False.
        """
        with self._lock:
            over = self._under_way.get(key)
            if over is None:
                mine = self._under_way[key] = threading.Event()
        if over is not None:
            over.wait(seconds)
            yield False
            return
        try:
            yield True
        finally:
            with self._lock:
                del self._under_way[key]
            mine.set()

    def is_under_way(self, key: Hashable) -> bool:
        """Return whether somebody leads."""
        return key in self._under_way

    def note(self, key: Hashable, *, kept: bool) -> None:
        """Let requests for what was not kept go on their own for a while: waiting for one another only delays them."""
        with self._lock:
            self._alone.pop(hash(key), None)
            if not kept:
                self._alone[hash(key)] = time.monotonic() + ALONE_SECONDS
            if len(self._alone) > MAX_ALONE:
                self._alone.popitem(last=False)

    def is_alone(self, key: Hashable) -> bool:
        """Return whether requests for this go on their own."""
        return self._alone.get(hash(key), 0.0) > time.monotonic()
