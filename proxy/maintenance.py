"""What operators took out of service: a whole cluster, or one of its instances."""

from proxy.clusters import Instance


def refuse_if_closed(cluster: str) -> None:
    """Raise ClusterInMaintenance, with Retry-After, while the whole cluster is out of service."""


def is_closed(cluster: str, instance: Instance) -> bool:
    """Return whether the one instance is out of service."""
    return False
