"""What each worker reads of late revocations from the database, every second, and holds against requests itself.

A revocation reaches other gateways through Redis. Where Redis is split, or cut off from the gateway that revoked,
this bounds for how long a revoked token works elsewhere: by two seconds, wherever the database can be read.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from accounts.tokens.revocation.copy import copy, restore
from accounts.tokens.revocation.entries import Entry, in_chunks, late_entries
from accounts.tokens.revocation.publishing import try_to_publish
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW, compare_clock, database_now
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from ratelimit.engine.limiter import GateClosed, KeyGate

SECONDS = 1.0
# Each look goes back behind the last one, for what became visible later than its time says.
OVERLAP = timedelta(seconds=60)
SWEEP_SECONDS = 60.0


class Lookout:
    """The late revocations that this process knows of, by their keys in Redis."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.looked_at: datetime | None = None
        self.run_id = ""
        self.swept_at = time.monotonic()

    def check(self, gates: Sequence[KeyGate]) -> None:
        """Raise GateClosed for the first of the gates that an entry closes."""
        if not self.entries:
            return
        for index, gate in enumerate(gates):
            entry = self.entries.get(gate.key)
            if entry is not None and gate.above is not None and entry.value > gate.above:
                raise GateClosed(index)

    def look(self) -> None:
        """Read what is new, hold it against requests, and write it to the Redis that is in reach, for whoever asks
        Redis alone. Raises django.db.Error.
        """
        asked_at = time.time()
        now = database_now()
        compare_clock("the database", now.timestamp(), asked_at=asked_at)
        # A primary that took over may have a clock that is behind.
        since = min(now, self.looked_at or now) - OVERLAP
        new: list[Entry] = []
        for chunk in in_chunks(late_entries(since)):
            new += self.hold(chunk)
            time.sleep(0)  # others of this worker get their turn
        self.looked_at = now
        try_to_publish(new)
        self.sweep()
        self.watch_redis()
        if copy.suspect:
            # Now, while the database answers: it may be down when the next request comes.
            with suppress(RedisUnavailable):
                restore()

    def hold(self, entries: Iterable[Entry]) -> list[Entry]:
        """Hold the entries against requests; return those that are new."""
        new = [entry for entry in entries if self.entries.get(entry.key) != entry]
        self.entries |= {entry.key: entry for entry in new}
        return new

    def forget(self, key: str) -> None:
        """Hold the entry against nobody any more: its account was unlocked."""
        self.entries.pop(key, None)

    def sweep(self) -> None:
        """Once a minute, forget what has ended by any clock."""
        if time.monotonic() < self.swept_at + SWEEP_SECONDS:
            return
        over = datetime.now(UTC) - MAX_CLOCK_SKEW
        self.entries = {key: entry for key, entry in list(self.entries.items()) if entry.ends > over}
        self.swept_at = time.monotonic()

    def watch_redis(self) -> None:
        """Compare the clock of Redis with ours, and doubt the copy if another server answers: it may be one that was
        on the other side of a split, and has not heard what this side revoked.
        """
        asked_at = time.time()
        try:
            info, (seconds, microseconds) = redis_call(who_and_when)
        except RedisUnavailable:
            return
        compare_clock("Redis", seconds + microseconds / 1e6, asked_at=asked_at)
        if self.run_id and info["run_id"] != self.run_id and info["run_id"].encode() != copy.believed_on:
            copy.doubt()
        self.run_id = info["run_id"]


def who_and_when(redis: Redis) -> Any:
    """Return what the server says of itself, and its time (seconds, microseconds)."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.info("server")
    pipeline.time()
    return pipeline.execute()


lookout = Lookout()
