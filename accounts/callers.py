"""The callers whose credentials this process has checked lately."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from lucid_gateway.kernel.caller import Caller

MAX_REMEMBERED = 10_000


K = TypeVar("K", bound=Hashable)


class RememberedCallers(Generic[K]):
    """The callers of credentials that this process has checked lately; the oldest go first."""

    def __init__(self) -> None:
        self._callers: OrderedDict[K, tuple[Caller, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, credential: K) -> Caller | None:
        """Return the caller, None if the credential is not known or was checked too long ago."""
        caller, until = self._callers.get(credential, (None, 0.0))
        return caller if until > time.monotonic() else None

    def put(self, credential: K, caller: Caller, *, seconds: float) -> None:
        """Remember the caller for so long."""
        with self._lock:
            self._callers[credential] = caller, time.monotonic() + seconds
            self._callers.move_to_end(credential)
            if len(self._callers) > MAX_REMEMBERED:
                self._callers.popitem(last=False)

    def knows(self, credential: K) -> bool:
        """Return whether the credential was right when it was last checked, however long ago."""
        return credential in self._callers

    def forget(self, credential: K) -> None:
        """Forget a credential that is not right any more."""
        with self._lock:
            self._callers.pop(credential, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._callers.clear()
