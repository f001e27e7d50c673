"""The lease for a probe: of all workers of a gateway one at a time finds out whether an instance still fails."""

import socket
from functools import cache

from django.conf import settings

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.exclusive_lease import take_lease
from lucid_gateway.policy import keys

LEASE_MS = 5_000


@cache
def gateway_name() -> str:
    """Return the name of this gateway among those that share a Redis: its workers see the clusters from one place."""
    return f"{socket.gethostname()}:{settings.ENV.HTTP_PORT}"


def may_probe(instance: str) -> bool:
    """Return whether this worker may send the probe; without Redis each worker sends its own."""
    try:
        return take_lease(keys.probe_lease(gateway_name(), instance), "", milliseconds=LEASE_MS)
    except RedisUnavailable:
        return True
