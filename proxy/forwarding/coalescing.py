"""Request coalescing in one worker: of several equal requests one asks the cluster, and the others wait for it."""

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator

UNCOALESCED_SECONDS = 10.0
MAX_UNCOALESCED = 10_000


class Flights:
    """The keys of requests in progress, and those exempt from coalescing because their last answer was not stored."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, threading.Event] = {}
        self._uncoalesced: OrderedDict[int, float] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lead_or_wait(self, key: Hashable, *, seconds: float) -> Iterator[bool]:
        """Yield True to the first caller, the leader, and False to others once the leader's block has ended, also with
        an error; they wait at most `seconds`.
        """
        with self._lock:
            other = self._under_way.get(key)
            if other is None:
                mine = self._under_way[key] = threading.Event()
        if other is not None:
            other.wait(seconds)
            yield False
            return
        try:
            yield True
        finally:
            with self._lock:
                del self._under_way[key]
            mine.set()

    def is_under_way(self, key: Hashable) -> bool:
        return key in self._under_way

    def note(self, key: Hashable, *, kept: bool) -> None:
        """Record whether the answer was stored; if not, its requests do not wait for each other for ten seconds."""
        with self._lock:
            self._uncoalesced.pop(hash(key), None)
            if not kept:
                self._uncoalesced[hash(key)] = time.monotonic() + UNCOALESCED_SECONDS
            if len(self._uncoalesced) > MAX_UNCOALESCED:
                self._uncoalesced.popitem(last=False)

    def is_uncoalesced(self, key: Hashable) -> bool:
        """Return whether requests with this key go to the cluster without waiting for each other."""
        return self._uncoalesced.get(hash(key), 0.0) > time.monotonic()
