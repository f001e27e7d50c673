"""The stored answers of one worker, in memory; if they get too large, the least recently used are removed."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from proxy.forwarding.cache_control import Fields

MAX_ENTRY = 256 * 1024  # bytes of a body
MAX_TOTAL = 32 * 1024 * 1024
OVERHEAD = 1024  # bytes, about, that an entry takes in addition to its strings


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer; it is fresh for `lifetime` seconds from `born`, the time of its age 0 on the monotonic clock."""

    fields: Fields
    body: bytes
    born: float
    lifetime: float

    def age(self, now: float) -> float:
        return max(0.0, now - self.born)

    def ttl(self, now: float) -> float:
        """Return the seconds for which the answer is still fresh; 0 or less if it is stale."""
        return self.born + self.lifetime - now

    @property
    def size(self) -> int:
        """The memory it takes, in bytes, about."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.fields) + OVERHEAD


class CacheKey(NamedTuple):
    """The request as far as Vary plays no part: caller (None if shared), origin, and path with query."""

    caller: Hashable
    origin: str
    target: str


RequestField = Callable[[str], str | None]  # returns the value of a request field by its lower-case name
Variant = tuple[CacheKey, tuple[str, ...], tuple[str | None, ...]]


@dataclass
class VaryNames:
    """The request fields by which the newest answer varies, and the number of stored answers."""

    names: tuple[str, ...]
    count: int = 0


class StoredAnswers:
    """The store, limited to `max_total` bytes."""

    def __init__(self, *, max_total: int = MAX_TOTAL, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_total = max_total
        self.clock = clock
        self.size = 0
        self._answers: OrderedDict[Variant, tuple[StoredAnswer, int]] = OrderedDict()
        self._names: dict[CacheKey, VaryNames] = {}
        self._lock = threading.Lock()

    def variant_of(self, key: CacheKey, request_field: RequestField) -> Variant:
        """Return the key of an answer, given the Vary fields known so far for this request."""
        known = self._names.get(key)
        names = known.names if known else ()
        return key, names, tuple(map(request_field, names))

    def find(self, key: CacheKey, request_field: RequestField) -> StoredAnswer | None:
        """Return a fresh answer, or None."""
        with self._lock:
            variant = self.variant_of(key, request_field)
            answer, _ = self._answers.get(variant, (None, 0))
            if answer is None:
                return None
            if answer.ttl(self.clock()) <= 0:
                self._remove(variant)
                return None
            self._answers.move_to_end(variant)
            return answer

    def keep(self, key: CacheKey, names: tuple[str, ...], request_field: RequestField, answer: StoredAnswer) -> None:
        """Store an answer that varies by the request fields `names`."""
        variant = key, names, tuple(map(request_field, names))
        size = answer.size + len(key.target) + sum(len(value or "") for value in variant[2])
        with self._lock:
            self._remove(variant)
            self._answers[variant] = answer, size
            self._names.setdefault(key, VaryNames(names)).names = names
            self._names[key].count += 1
            self.size += size
            while self.size > self.max_total:
                self._remove(next(iter(self._answers)))

    def _remove(self, variant: Variant) -> None:
        _, size = self._answers.pop(variant, (None, 0))
        if not size:
            return
        self.size -= size
        known = self._names[variant[0]]
        known.count -= 1
        if not known.count:
            del self._names[variant[0]]

    def clear(self) -> None:
        with self._lock:
            self._answers.clear()
            self._names.clear()
            self.size = 0
