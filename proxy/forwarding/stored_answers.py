"""The answers that one worker keeps in its memory: found by what was asked, the least recently used go first."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from proxy.forwarding.cache_control import Fields

MAX_ENTRY = 256 * 1024  # bytes of a body
MAX_TOTAL = 32 * 1024 * 1024
OVERHEAD = 1024  # bytes, about, that an entry takes beside its texts


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A whole answer. `born` is when it was 0 seconds old, on the monotonic clock, `lifetime` seconds from then on."""

    fields: Fields
    body: bytes
    born: float
    lifetime: float

    def age(self, now: float) -> float:
        """Return its age in seconds."""
        return max(0.0, now - self.born)

    def ttl(self, now: float) -> float:
        """Return for how many seconds more it is fresh; it is not from 0 on."""
        return self.born + self.lifetime - now

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.fields) + OVERHEAD


class CacheKey(NamedTuple):
    """What was asked: by whom (None: by anybody who may), at which origin, for which path and query."""

    caller: Hashable
    origin: str
    target: str


RequestField = Callable[[str], str | None]  # the value of a request's field by its lower-case name
Variant = tuple[CacheKey, tuple[str, ...], tuple[str | None, ...]]


@dataclass
class Names:
    """By which request fields the newest answer varies, and how many answers there are."""

    names: tuple[str, ...]
    count: int = 0


class StoredAnswers:
    """The answers, `max_total` bytes at most."""

    def __init__(self, *, max_total: int = MAX_TOTAL, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_total = max_total
        self.clock = clock
        self.size = 0
        self._answers: OrderedDict[Variant, tuple[StoredAnswer, int]] = OrderedDict()
        self._names: dict[CacheKey, Names] = {}
        self._lock = threading.Lock()

    def variant_of(self, asked: CacheKey, request_field: RequestField) -> Variant:
        """Return the key of an answer, as far as it is known by now what answers to this vary by."""
        known = self._names.get(asked)
        names = known.names if known else ()
        return asked, names, tuple(map(request_field, names))

    def find(self, asked: CacheKey, request_field: RequestField) -> StoredAnswer | None:
        """Return a fresh answer, None if there is none."""
        with self._lock:
            variant = self.variant_of(asked, request_field)
            answer, _ = self._answers.get(variant, (None, 0))
            if answer is None:
                return None
            if answer.ttl(self.clock()) <= 0:
                self._remove(variant)
                return None
            self._answers.move_to_end(variant)
            return answer

    def keep(self, asked: CacheKey, names: tuple[str, ...], request_field: RequestField, answer: StoredAnswer) -> None:
        """Keep an answer that varies by the request fields of these names."""
        variant = asked, names, tuple(map(request_field, names))
        size = answer.size + len(asked.target) + sum(len(value or "") for value in variant[2])
        with self._lock:
            self._remove(variant)
            self._answers[variant] = answer, size
            self._names.setdefault(asked, Names(names)).names = names
            self._names[asked].count += 1
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
        """Forget all."""
        with self._lock:
            self._answers.clear()
            self._names.clear()
            self.size = 0
