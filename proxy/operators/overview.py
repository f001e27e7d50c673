"""The clusters as operators see them: what is configured, what is out of service, what all workers say of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from lucid_gateway.kernel.redis.access import RedisUnavailable
from proxy.choosing.closures import is_closed, is_unwatched
from proxy.choosing.reports import InstanceReport, read_reports
from proxy.clusters import Cluster, Instance, configured
from proxy.models import Maintenance

UNKNOWN = "unknown"
OPEN, DEGRADED, CLOSED = "open", "degraded", "closed"
Kind = Maintenance.Kind
SERVING = frozenset({"up", "recovering", UNKNOWN})
# Of what workers say of an instance the worst is shown.
BREAKERS = ("open", "half-open", "closed", UNKNOWN)
HEALTHS = ("unhealthy", "healthy", UNKNOWN)


@dataclass(frozen=True)
class InstanceView:
    """An instance: `state` is open or closed, `closed_for` drain or maintenance; the rest is over all workers of all
    gateways, None or `unknown` where none of the `workers` says anything.
    """

    url: str
    state: str
    closed_for: str | None
    workers: int
    in_flight: int | None
    breaker: str
    health: str
    requests: int | None
    failures: int | None

    @property
    def condition(self) -> str:
        """What an operator has to know first, in a word."""
        if self.closed_for == Kind.MAINTENANCE:
            return "in maintenance"
        if self.closed_for == Kind.DRAIN:
            return "drained" if self.in_flight == 0 else "draining"
        if self.breaker == "open" or self.health == "unhealthy":
            return "down"
        if self.breaker == "half-open":
            return "recovering"
        return "up" if self.workers else UNKNOWN


@dataclass(frozen=True)
class ClusterView:
    """A cluster: `state` is open, degraded (some instances are out of service) or closed (all are)."""

    name: str
    service: str
    state: str
    instances: tuple[InstanceView, ...]
    maintenance: tuple[Maintenance, ...]

    @property
    def serving(self) -> int:
        """How many instances get requests, as far as one knows."""
        return sum(instance.condition in SERVING for instance in self.instances)


def clusters() -> tuple[list[ClusterView], bool]:
    """Return all configured clusters, and whether Redis could be asked for what the workers say."""
    reports, known = current_reports()
    rows = list(Maintenance.objects.not_over().order_by("starts_at", "maintenance_id"))
    return [cluster_view(cluster, reports, rows) for cluster in configured().values()], known


def current_reports() -> tuple[list[InstanceReport], bool]:
    """Return what the workers say, and whether Redis could be asked for it."""
    try:
        return read_reports(), True
    except RedisUnavailable:
        return [], False


def cluster_view(cluster: Cluster, reports: Iterable[InstanceReport], rows: Iterable[Maintenance]) -> ClusterView:
    """Return the view of a cluster."""
    of_cluster = [report for report in reports if report.cluster == cluster.name]
    instances = tuple(instance_view(cluster, instance, of_cluster) for instance in cluster.instances)
    of_it = tuple(row for row in rows if row.cluster == cluster.name)
    return ClusterView(cluster.name, cluster.service, overall(instances), instances, of_it)


def overall(instances: Iterable[InstanceView]) -> str:
    """Return the word for a cluster with these instances."""
    are_open = [instance.state == OPEN for instance in instances]
    if all(are_open):
        return OPEN
    return DEGRADED if any(are_open) else CLOSED


def instance_view(cluster: Cluster, instance: Instance, reports: Iterable[InstanceReport]) -> InstanceView:
    """Return the view of an instance, the workers' counts summed."""
    closed_for = reason_of(cluster.name, instance)
    said = [report for report in reports if report.instance == instance.url]
    return InstanceView(
        url=instance.url,
        state=OPEN if closed_for is None else CLOSED,
        closed_for=closed_for,
        workers=len(said),
        in_flight=sum(report.in_flight for report in said) if said else None,
        breaker=worst(BREAKERS, [report.breaker for report in said]),
        health=UNKNOWN if closed_for == Kind.MAINTENANCE else worst(HEALTHS, [report.health for report in said]),
        requests=sum(report.requests for report in said) if said else None,
        failures=sum(report.failures for report in said) if said else None,
    )


def reason_of(cluster: str, instance: Instance) -> str | None:
    """Return what the instance is closed for, None if it is open."""
    if not is_closed(cluster, instance):
        return None
    return Kind.MAINTENANCE if is_unwatched(cluster, instance) else Kind.DRAIN


def worst(words: Iterable[str], said: Iterable[str]) -> str:
    """Return the first of the words that somebody said, `unknown` if nobody said any."""
    return next((word for word in words if word in set(said)), UNKNOWN)
