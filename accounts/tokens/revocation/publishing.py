"""Writing what was revoked to Redis: at once, or as soon as Redis is back."""

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from accounts.tokens.revocation.copy import copy
from accounts.tokens.revocation.entries import Entry, publish
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.redis.access import RedisUnavailable

RETRY_SECONDS = 0.5


class Publisher:
    """Writes in the background what could not be written at once, for the workers that did not notice the outage."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def add(self, entries: list[Entry]) -> None:
        """Write the entries as soon as Redis is back."""
        with self.lock:
            self.waiting = [*self.waiting, *entries]  # not in place: the thread may be at work on the list
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="revocation", daemon=True)
                self.thread.start()

    def run(self) -> None:
        """Try until it works or nothing is needed any more."""
        while True:
            time.sleep(RETRY_SECONDS)
            over = datetime.now(UTC) - MAX_CLOCK_SKEW
            with self.lock:
                waiting = self.waiting = [entry for entry in self.waiting if entry.ends > over]
                if not waiting:
                    self.thread = None
                    return
            with suppress(RedisUnavailable):
                publish(waiting)
                with self.lock:
                    self.waiting = self.waiting[len(waiting) :]

    def wait(self, seconds: float) -> bool:
        """Return whether all was written, after so long at most: commands must not end before."""
        thread = self.thread
        if thread is not None:
            thread.join(seconds)
        return self.thread is None


publisher = Publisher()


def try_to_publish(entries: Iterable[Entry]) -> None:
    """Write keys; without Redis do so when it is back, and build the copy anew before it is believed here again."""
    ready = list(entries)
    if not ready:
        return
    try:
        publish(ready)
    except RedisUnavailable:
        copy.doubt()
        publisher.add(ready)
