"""The lease for a probe: of all workers of a gateway one at a time finds out whether an instance still fails."""

import socket
from functools import cache

from django.conf import settings

from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys

LEASE_MS = 5_000


@cache
def gateway_name() -> str:
    """Return the name of this gateway among those that share a Redis: its workers see the clusters from one place."""
    return f"{socket.gethostname()}:{settings.ENV.HTTP_PORT}"


def may_probe(instance: str) -> bool:
    """Return whether this worker may send the probe; without Redis each worker sends its own."""
    key = keys.probe_lease(gateway_name(), instance)
    try:
        return bool(redis_call(lambda redis: redis.set(key, "", nx=True, px=LEASE_MS)))
    except RedisUnavailable:
        return True
