"""The closed instances: each worker keeps the maintenance windows in memory and compares them with the clock."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lucid_gateway.kernel.snapshots.snapshot import Snapshot
from lucid_gateway.policy.errors import ClusterInMaintenance
from proxy.clusters import Cluster, Instance, configured, find_instance
from proxy.models import Maintenance

OPEN_END_SECONDS = 60
Window = tuple[float, float]
Windows = Mapping[Instance, tuple[Window, ...]]


@dataclass(frozen=True)
class Closures:
    """When each instance is closed, by cluster: windows of epoch seconds that neither touch nor overlap.

    In windows of `closed` an instance gets no new requests; in those of `maintenance`, a subset, it is also expected
    to be down. Clusters without windows have no entry.
    """

    closed: Mapping[str, Windows] = field(default_factory=dict)
    maintenance: Mapping[str, Windows] = field(default_factory=dict)


def read_closures() -> Closures:
    """Read the maintenance in force or scheduled; raise django.db.Error."""
    rows = list(Maintenance.objects.not_over())
    maintenance = [row for row in rows if row.kind == Maintenance.Kind.MAINTENANCE]
    return Closures(by_cluster(rows), by_cluster(maintenance))


closures_cache = Snapshot("closures", read_closures, Closures())


def by_cluster(rows: Iterable[Maintenance]) -> dict[str, Windows]:
    """Return the windows of each instance, by name of cluster; those of a whole cluster apply to each instance."""
    found: dict[str, dict[Instance, list[Window]]] = {}
    for row in rows:
        cluster = configured().get(row.cluster)
        for instance in instances_of(row, cluster) if cluster else ():
            found.setdefault(row.cluster, {}).setdefault(instance, []).append(window_of(row))
    return {
        name: {instance: merged(windows) for instance, windows in instances.items()}
        for name, instances in found.items()
    }


def instances_of(row: Maintenance, cluster: Cluster) -> tuple[Instance, ...]:
    """Return the instances that a row is about, or () if its instance is no longer configured."""
    if not row.instance:
        return cluster.instances
    instance = find_instance(cluster, row.instance)
    return (instance,) if instance else ()


def window_of(row: Maintenance) -> Window:
    """Return the start and end of a row in epoch seconds; the end is infinite if it is not set."""
    return row.starts_at.timestamp(), row.ends_at.timestamp() if row.ends_at else math.inf


def merged(windows: Iterable[Window]) -> tuple[Window, ...]:
    """Join windows that touch or overlap, so that Retry-After names the end of the last one."""
    joined: list[Window] = []
    for start, end in sorted(windows):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return tuple(joined)


def end_of(windows: Iterable[Window], now: float) -> float | None:
    """Return the end of the window that contains `now`, or None."""
    return next((end for start, end in windows if start <= now < end), None)


def is_closed(cluster: str, instance: Instance) -> bool:
    """Return whether the instance gets no new requests."""
    return closed_until(cluster, instance) is not None


def closed_until(cluster: str, instance: Instance) -> float | None:
    """Return when the instance opens again in epoch seconds, infinity without a set end, None if it is open."""
    windows = closures_cache.current.closed.get(cluster)
    return end_of(windows.get(instance, ()), time.time()) if windows else None


def is_in_maintenance(cluster: str, instance: Instance) -> bool:
    """Return whether the instance is expected to be down, so that health checks skip it and it causes no alarm."""
    windows = closures_cache.current.maintenance.get(cluster)
    return windows is not None and end_of(windows.get(instance, ()), time.time()) is not None


def is_expected_down(cluster: str) -> bool:
    """Return whether all of the cluster's instances are expected to be down."""
    if cluster not in closures_cache.current.maintenance:
        return False
    return all(is_in_maintenance(cluster, instance) for instance in configured()[cluster].instances)


def refuse_if_closed(cluster: str) -> None:
    """Raise ClusterInMaintenance, with Retry-After, while no instance of the cluster is in service."""
    if cluster not in closures_cache.current.closed:
        return
    ends = [closed_until(cluster, instance) for instance in configured()[cluster].instances]
    known = [end for end in ends if end is not None]
    if len(known) == len(ends):
        raise refusal(cluster, min(known))


def refusal(cluster: str, until: float) -> ClusterInMaintenance:
    """Return the error for a cluster whose first instance opens at `until` (epoch seconds, or infinity)."""
    if math.isinf(until):
        seconds, text = OPEN_END_SECONDS, None
    else:
        seconds = max(1, math.ceil(until - time.time()))
        text = datetime.fromtimestamp(until, UTC).isoformat().replace("+00:00", "Z")
    return ClusterInMaintenance(details={"cluster": cluster, "until": text}, retry_after=seconds)
