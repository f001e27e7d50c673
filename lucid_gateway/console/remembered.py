"""Values that every page shows: computed in the background, so that no page waits for a store that hangs."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Generic, TypeVar

from django.db import connection

T = TypeVar("T")
logger = logging.getLogger(__name__)
KEPT_SECONDS = 2.0
STALE_SECONDS = 15  # from then on, a page says that the value is old or not known
# A page waits so long for a new value, and then shows the old one.
PATIENCE_SECONDS = 0.3


@cache
def executor() -> ThreadPoolExecutor:
    """Return the threads, created on first use, after the worker was forked."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="console")


class Remembered(Generic[T]):
    """A value that is computed again when it is asked for and older than two seconds; `missing` until it is known."""

    def __init__(self, compute: Callable[[], T], missing: T) -> None:
        self.compute, self.value = compute, missing
        self.computed_at = self.asked_at = float("-inf")
        self.lock = threading.Lock()
        self.future: Future[None] | None = None

    def get(self, patience: float = PATIENCE_SECONDS) -> T:
        """Return the value; wait up to `patience` seconds for a new one."""
        with self.lock:
            if time.monotonic() - self.computed_at < KEPT_SECONDS:
                return self.value
            if self.future is None or self.future.done():
                self.asked_at = time.monotonic()
                self.future = executor().submit(self.renew)
            future, waits = self.future, time.monotonic() - self.asked_at < patience
        if waits:
            wait([future], patience)
        return self.value

    def forget(self) -> None:
        """Compute the value again when it is asked for next; wait for a computation in progress."""
        if self.future is not None:
            wait([self.future], KEPT_SECONDS)
        self.computed_at = float("-inf")

    @property
    def age(self) -> float:
        """The seconds since the value was computed."""
        return time.monotonic() - self.computed_at

    @property
    def is_stale(self) -> bool:
        """Whether the value could not be computed for a while, or never was."""
        return self.age > STALE_SECONDS

    def renew(self) -> None:
        try:
            self.value = self.compute()
            self.computed_at = time.monotonic()
        except Exception as error:  # noqa: BLE001  # the page shows the old value
            logger.warning("part of the console not computed", extra={"error": type(error).__name__})
        finally:
            connection.close()
