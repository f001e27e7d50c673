"""The lease for probes: of all workers of a gateway, one at a time may probe a failing instance."""

import socket
from functools import cache

from django.conf import settings

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.exclusive_lease import take_lease
from lucid_gateway.policy import keys

LEASE_MS = 5_000


@cache
def gateway_name() -> str:
    """Return this gateway's name among those that share a Redis; its workers share what they know of the clusters."""
    return f"{socket.gethostname()}:{settings.ENV.HTTP_PORT}"


def may_probe(instance: str) -> bool:
    """Return whether this worker may send the probe; without Redis every worker may."""
    try:
        return take_lease(keys.probe_lease(gateway_name(), instance), "", milliseconds=LEASE_MS)
    except RedisUnavailable:
        return True
