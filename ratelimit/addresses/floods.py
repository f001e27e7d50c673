"""The addresses over their limit in this process: only a few of their unknown tokens and API keys are checked."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

MAX_ADDRESSES = 50_000
# Signatures and API keys that are checked per second, so that users who share the address can still sign in.
CHECKS_PER_SECOND = 15


@dataclass(slots=True)
class Flood:
    ends: float
    second: int = 0
    checks: int = 0


class Floods:
    """The addresses over their limit, until their window ends; the oldest are dropped when there are too many."""

    def __init__(self) -> None:
        self._floods: OrderedDict[str, Flood] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, address: str, ends: float) -> None:
        """Note that the address is over its limit until `ends` (seconds since the epoch)."""
        with self._lock:
            flood = self._floods.setdefault(address, Flood(ends))
            flood.ends = ends
            if len(self._floods) > MAX_ADDRESSES:
                self._floods.popitem(last=False)

    def may_check(self, address: str) -> bool:
        """Return whether one more credential of the address may be checked, and count it."""
        if not self._floods:
            return True
        now = time.time()
        with self._lock:
            flood = self._floods.get(address)
            if flood is None:
                return True
            if flood.ends <= now:
                del self._floods[address]
                return True
            if flood.second != int(now):
                flood.second, flood.checks = int(now), 0
            flood.checks += 1
            return flood.checks <= CHECKS_PER_SECOND

    def clear(self) -> None:
        """Forget all addresses."""
        with self._lock:
            self._floods.clear()


floods = Floods()
