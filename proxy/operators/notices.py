"""What the callers of a cluster notice while some of its instances are down or out of service, in words."""

from lucid_gateway.policy.errors import CircuitOpen, ClusterInMaintenance
from proxy.operators.overview import CLOSED, SERVING, ClusterView, InstanceView

OUT_OF_SERVICE = f"Callers get 503 LUCID_ERR_{ClusterInMaintenance.number}: no instance is in service."
ALL_DOWN = f"Callers get 502, 504 or 503 LUCID_ERR_{CircuitOpen.number}: no instance that is in service answers."
ALL_UNHEALTHY = (
    "All instances in service fail their health checks. They still get requests, because a check may be wrong."
)


def what_callers_notice(cluster: ClusterView) -> str:
    """Return one or two sentences, or an empty text if all instances serve."""
    serving = [instance for instance in cluster.instances if instance.condition in SERVING]
    if len(serving) == len(cluster.instances):
        return ""
    if serving:
        return f"Callers are served by {named(serving)}."
    if cluster.state == CLOSED:
        return OUT_OF_SERVICE
    in_service = [instance for instance in cluster.instances if instance.closed_for is None]
    return ALL_DOWN if any(instance.breaker == "open" for instance in in_service) else ALL_UNHEALTHY


def named(instances: list[InstanceView]) -> str:
    """Return the address of a single instance, or the number of several."""
    return instances[0].url if len(instances) == 1 else f"the other {len(instances)} instances"
