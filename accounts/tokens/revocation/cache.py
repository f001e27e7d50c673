"""Whether this process trusts the revocations in Redis, a cache of what the database says.

Each master of a Redis Cluster has a cache of its own, with the revocations of the users whose keys it has.
"""

import threading
from typing import NamedTuple

from lucid_gateway.kernel.redis.access import redis_call, servers
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys


class WantedRebuild(NamedTuple):
    """The rebuild that makes a generation trusted: on the server with this run id, with a number above `after`.

    `home` is the tag of the slot in which the numbers are.
    """

    generation: int
    run_id: bytes
    home: str
    after: int


class RevocationCache:
    """Whether this process trusts the revocations in one Redis server.

    Whatever may have kept an entry from Redis begins a new `suspected_generation`: Redis or the database failed, or
    another Redis server answers. While `trusted_generation` is behind it, the database decides.
    It catches up once a rebuild that began later is complete, on the server that answers: the marker in Redis names
    that server, and the numbers of the rebuilds tell which began later.
    A new process begins suspicious: an earlier one may have ended before it published what it revoked.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
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
        generation, run_id, home = self.suspected_generation, self.run_id(), self.server.home
        if self.wanted is None or self.wanted[:3] != (generation, run_id, home):
            self.wanted = WantedRebuild(generation, run_id, home, number_at(keys.in_slot(keys.REBUILDS_BEGUN, home)))
        return self.wanted

    def run_id(self) -> bytes:
        """Return what names the run of the server that answers; raise RedisUnavailable."""
        return str(self.server.call(lambda redis: redis.info("server")["run_id"])).encode()

    def is_complete(self, wanted: WantedRebuild, tag: str) -> bool:
        """Return whether the slot with the tag has all revocations, rebuilt since a suspicion; trust the cache if so.

        Raises RedisUnavailable.
        """
        marker, done = keys.in_slot(keys.REVOCATIONS_COMPLETE, tag), keys.in_slot(keys.REBUILDS_DONE, wanted.home)
        marked = redis_call(marker, lambda redis: redis.get(marker)) == wanted.run_id
        if marked and (not self.is_suspected or number_at(done) > wanted.after):
            self.trust(wanted)
            return True
        return False

    def trust(self, rebuilt: WantedRebuild) -> None:
        """Trust the generation of the rebuild; the cache stays suspected if a later generation has begun."""
        self.trusted_generation, self.trusted_run_id, self.wanted = rebuilt.generation, rebuilt.run_id, None


caches: dict[Server, RevocationCache] = {}


def cache_on(server: Server) -> RevocationCache:
    """Return the cache on a server."""
    return caches.get(server) or caches.setdefault(server, RevocationCache(server))


def suspect_all() -> None:
    """Trust no cache any longer."""
    for server in servers():
        cache_on(server).suspect()


def forget_lost_servers() -> None:
    """Forget the caches on servers that are no longer masters of the cluster."""
    for server in caches.keys() - set(servers()):
        del caches[server]


def number_at(key: str) -> int:
    """Return the number that the key holds, 0 if none; raise RedisUnavailable."""
    return int(redis_call(key, lambda redis: redis.get(key)) or 0)
