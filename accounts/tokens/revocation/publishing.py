"""Writing what was revoked to Redis: at once, or as soon as Redis is back."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from accounts.tokens.revocation.copy import copy
from accounts.tokens.revocation.entries import Entry, publish
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable

RETRY_SECONDS = 0.5


class Publisher:
    """Writes in the background what could not be written at once, for the workers that did not notice the outage."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.loop = Loop("revocation", self.publish_waiting, every=RETRY_SECONDS, needed=self.has_work)

    def add(self, entries: list[Entry]) -> None:
        """Write the entries as soon as Redis is back."""
        self.waiting = [*self.waiting, *entries]  # not in place: the loop may be at work on the list
        self.loop.start()

    def has_work(self) -> bool:
        """Drop the entries that nobody needs any more; return whether there are others."""
        over = datetime.now(UTC) - MAX_CLOCK_SKEW
        self.waiting = [entry for entry in self.waiting if entry.ends > over]
        return bool(self.waiting)

    def publish_waiting(self) -> None:
        """Write what waits; what is added meanwhile comes later."""
        waiting = self.waiting
        with suppress(RedisUnavailable):
            publish(waiting)
            self.waiting = self.waiting[len(waiting) :]

    def wait(self, seconds: float) -> bool:
        """Return whether all was written, after so many seconds at most: commands must not end before."""
        return self.loop.wait(seconds)


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
