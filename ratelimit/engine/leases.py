"""Requests in progress, counted over all workers: each has a lease that its worker renews until the request ends.

The leases of a killed worker expire.
"""

from contextlib import suppress
from dataclasses import dataclass

from redis import Redis

from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, by_server, redis_call
from lucid_gateway.policy import keys

LEASE_MS = 15_000
RENEWAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one request to be in progress."""

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

    def release(self, lease: Lease) -> None:
        """End the lease, so that another request may start; while Redis is unavailable it expires instead."""
        self.held.discard(lease)
        with suppress(RedisUnavailable):
            redis_call(lease.subject, lambda redis: redis.zrem(keys.concurrent(lease.subject), lease.lease_id))

    def renew(self) -> None:
        """Renew all leases; while Redis is unavailable they may expire."""
        for server, leases in by_server(list(self.held), lambda lease: lease.subject).items():
            with suppress(RedisUnavailable):
                server.call(lambda redis, leases=leases: write(redis, leases))  # type: ignore[misc]


def write(redis: Redis, leases: list[Lease]) -> None:
    """Extend the leases; one that was released meanwhile is not added again (XX)."""
    seconds, microseconds = redis.time()
    ends = seconds * 1000 + microseconds // 1000 + LEASE_MS
    pipeline = redis.pipeline(transaction=False)
    for lease in leases:
        pipeline.zadd(keys.concurrent(lease.subject), {lease.lease_id: ends}, xx=True)
        pipeline.pexpire(keys.concurrent(lease.subject), LEASE_MS)
    pipeline.execute()


request_leases = RequestLeases()
