"""Whether this process trusts the revocations in Redis, a cache of what the database says."""

import threading
from typing import NamedTuple

from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy import keys


class WantedRebuild(NamedTuple):
    """The rebuild that makes a generation trusted: on the server with this run id, with a number above `after`."""

    generation: int
    run_id: bytes
    after: int


class RevocationCache:
    """Whether this process trusts the revocations in Redis.

    Whatever may have kept an entry from Redis begins a new `suspected_generation`: Redis or the database failed, or
    another Redis server answers. While `trusted_generation` is behind it, the database decides.
    It catches up once a rebuild that began later is complete, on the server that answers: the marker in Redis names
    that server, and the numbers of the rebuilds tell which began later.
    A new process begins suspicious: an earlier one may have ended before it published what it revoked.
    """

    def __init__(self) -> None:
        self.rebuilding = threading.Lock()
        self.suspected_generation = 1
        self.trusted_generation = 0
        self.wanted: WantedRebuild | None = None
        self.trusted_run_id = b""
        self.next_rebuild_at = 0.0  # by time.monotonic()

    def suspect(self) -> None:
        """Trust the cache no longer; a rebuild that has begun already does not change this."""
        self.suspected_generation += 1

    @property
    def is_suspected(self) -> bool:
        """Whether the cache must be rebuilt before it is trusted."""
        return self.trusted_generation < self.suspected_generation

    def wanted_rebuild(self) -> WantedRebuild:
        """Return the rebuild that makes the present generation trusted; it stays the same until it is complete.

        Raises RedisUnavailable.
        """
        generation, run_id = self.suspected_generation, server_run_id()
        if self.wanted is None or self.wanted[:2] != (generation, run_id):
            self.wanted = WantedRebuild(generation, run_id, number_at(keys.REBUILDS_BEGUN))
        return self.wanted

    def is_complete(self, wanted: WantedRebuild) -> bool:
        """Return whether the cache is complete and, if it is suspected, rebuilt since; trust it if so.

        Raises RedisUnavailable.
        """
        marked = redis_call(lambda redis: redis.get(keys.REVOCATIONS_COMPLETE)) == wanted.run_id
        if marked and (not self.is_suspected or number_at(keys.REBUILDS_DONE) > wanted.after):
            self.trust(wanted)
            return True
        return False

    def trust(self, rebuilt: WantedRebuild) -> None:
        """Trust the generation of the rebuild; the cache stays suspected if a later generation has begun."""
        self.trusted_generation, self.trusted_run_id, self.wanted = rebuilt.generation, rebuilt.run_id, None


revocation_cache = RevocationCache()


def server_run_id() -> bytes:
    """Return what names the run of the Redis server that answers; raise RedisUnavailable."""
    return str(redis_call(lambda redis: redis.info("server")["run_id"])).encode()


def number_at(key: str) -> int:
    """Return the number that the key holds, 0 if none; raise RedisUnavailable."""
    return int(redis_call(lambda redis: redis.get(key)) or 0)
