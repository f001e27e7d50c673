"""The lease for probes: of all workers of a gateway, one at a time may probe a failing instance."""

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.exclusive_lease import take_lease
from lucid_gateway.policy import keys

LEASE_MS = 5_000


def may_probe(instance: str) -> bool:
    """Return whether this worker may send the probe; without Redis every worker may."""
    try:
        return take_lease(keys.probe_lease(gateway_name(), instance), "", milliseconds=LEASE_MS)
    except RedisUnavailable:
        return True
