"""Requests under way, counted over all workers: each holds a lease that its worker renews until the request ends.

The leases of a worker that was killed run out by themselves.
"""

from contextlib import suppress
from dataclasses import dataclass

from redis import Redis

from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys

LEASE_MS = 15_000
RENEWAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The place of one request."""

    subject: str
    lease_id: str


class RequestLeases:
    """The leases of this process, renewed while there are any."""

    def __init__(self, every: float = RENEWAL_SECONDS) -> None:
        self.held: set[Lease] = set()
        self.loop = Loop("leases", self.renew, every=every, needed=lambda: bool(self.held))

    def hold(self, lease: Lease) -> None:
        """Renew the lease from now on."""
        self.held.add(lease)
        self.loop.start()

    def give_back(self, lease: Lease) -> None:
        """Let another request have the place; without Redis the lease runs out."""
        self.held.discard(lease)
        with suppress(RedisUnavailable):
            redis_call(lambda redis: redis.zrem(keys.concurrent(lease.subject), lease.lease_id))

    def renew(self) -> None:
        """Renew all leases; without Redis they may run out."""
        with suppress(RedisUnavailable):
            redis_call(lambda redis: write(redis, list(self.held)))


def write(redis: Redis, leases: list[Lease]) -> None:
    """Put the end of the leases off; one that was given back meanwhile stays away (XX)."""
    seconds, microseconds = redis.time()
    ends = seconds * 1000 + microseconds // 1000 + LEASE_MS
    pipeline = redis.pipeline(transaction=False)
    for lease in leases:
        pipeline.zadd(keys.concurrent(lease.subject), {lease.lease_id: ends}, xx=True)
        pipeline.pexpire(keys.concurrent(lease.subject), LEASE_MS)
    pipeline.execute()


request_leases = RequestLeases()
