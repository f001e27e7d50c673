"""The clusters as operators see them: configuration, maintenance, and what the workers report."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from lucid_gateway.kernel.redis.access import RedisUnavailable
from proxy.choosing.closures import instances_of
from proxy.choosing.reports import InstanceReport, read_reports
from proxy.clusters import Cluster, Instance, configured
from proxy.models import Maintenance

UNKNOWN = "unknown"
OPEN, DEGRADED, CLOSED = "open", "degraded", "closed"
Kind = Maintenance.Kind
SERVING = frozenset({"up", "recovering", UNKNOWN})
# From worst to best: of the workers' reports on an instance, the worst is shown.
BREAKERS = ("open", "half-open", "closed", UNKNOWN)
HEALTHS = ("unhealthy", "healthy", UNKNOWN)


@dataclass(frozen=True)
class InstanceView:
    """An instance: `state` is open or closed, `closed_for` is drain or maintenance, or None.

    The other fields combine the reports of all `workers` of all gateways; without reports they are None or `unknown`.
    `down_since` is the earliest time since which a worker finds it down, and `last_error` says in words why a request
    or a health check failed last.
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
    breaker_until: datetime | None = None
    down_since: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None

    @property
    def is_down(self) -> bool:
        """Whether the workers find that the instance does not answer."""
        return self.breaker == "open" or self.health == "unhealthy"

    @property
    def condition(self) -> str:
        """A summary in a word or two."""
        if self.closed_for == Kind.MAINTENANCE:
            return "in maintenance"
        if self.closed_for == Kind.DRAIN:
            return "drained" if self.in_flight == 0 else "draining"
        if self.is_down:
            return "down"
        if self.breaker == "half-open":
            return "recovering"
        return "up" if self.workers else UNKNOWN


@dataclass(frozen=True)
class ClusterView:
    """A cluster: `state` is open, degraded (some instances are closed) or closed (all are).

    `places` is how many requests may be in progress: the sum of the limits of all workers.
    """

    name: str
    service: str
    state: str
    instances: tuple[InstanceView, ...]
    maintenance: tuple[Maintenance, ...]
    places: int = 0

    @property
    def in_flight(self) -> int:
        return sum(instance.in_flight or 0 for instance in self.instances)

    @property
    def serving(self) -> int:
        """The number of instances that get requests; those in an unknown condition count."""
        return sum(instance.condition in SERVING for instance in self.instances)


def clusters() -> tuple[list[ClusterView], bool]:
    """Return all configured clusters, and whether Redis was available for the workers' reports."""
    reports, known = current_reports()
    rows = list(Maintenance.objects.not_over().order_by("starts_at", "maintenance_id"))
    return [cluster_view(cluster, reports, rows) for cluster in configured().values()], known


def current_reports() -> tuple[list[InstanceReport], bool]:
    """Return the workers' reports, and whether Redis was available."""
    try:
        return read_reports(), True
    except RedisUnavailable:
        return [], False


def cluster_view(cluster: Cluster, reports: Iterable[InstanceReport], rows: Iterable[Maintenance]) -> ClusterView:
    of_cluster = [report for report in reports if report.cluster == cluster.name]
    maintenance = tuple(row for row in rows if row.cluster == cluster.name)
    instances = tuple(
        instance_view(instance, of_cluster, kind_of_closure(cluster, instance, maintenance))
        for instance in cluster.instances
    )
    places = {(report.gateway, report.worker): report.places for report in of_cluster}
    return ClusterView(
        cluster.name, cluster.service, cluster_state(instances), instances, maintenance, sum(places.values())
    )


def cluster_state(instances: Iterable[InstanceView]) -> str:
    are_open = [instance.state == OPEN for instance in instances]
    if all(are_open):
        return OPEN
    return DEGRADED if any(are_open) else CLOSED


def instance_view(instance: Instance, reports: Iterable[InstanceReport], closed_for: str | None) -> InstanceView:
    """Combine the workers' reports on an instance: counts are summed, of words the worst is taken."""
    found = [report for report in reports if report.instance == instance.url]
    latest = max(found, key=lambda report: report.last_error_at or 0, default=None)
    return InstanceView(
        url=instance.url,
        state=OPEN if closed_for is None else CLOSED,
        closed_for=closed_for,
        workers=len(found),
        in_flight=sum(report.in_flight for report in found) if found else None,
        breaker=worst(BREAKERS, [report.breaker for report in found]),
        health=UNKNOWN if closed_for == Kind.MAINTENANCE else worst(HEALTHS, [report.health for report in found]),
        requests=sum(report.requests for report in found) if found else None,
        failures=sum(report.failures for report in found) if found else None,
        breaker_until=moment(max((report.open_until for report in found), default=None)),
        down_since=None if closed_for == Kind.MAINTENANCE else down_since(found),
        last_error=latest.last_error if latest else "",
        last_error_at=moment(latest.last_error_at) if latest else None,
    )


def down_since(reports: Iterable[InstanceReport]) -> datetime | None:
    """Return since when the first of the workers finds the instance down, or None if none does."""
    return moment(min((report.down_since for report in reports if report.down_since), default=None))


def moment(seconds: float | None) -> datetime | None:
    """Return the time for seconds since the epoch, or None for none."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def kind_of_closure(cluster: Cluster, instance: Instance, rows: Iterable[Maintenance]) -> str | None:
    """Return `maintenance` or `drain`, or None if the instance is open.

    The rows decide, because this worker's snapshot of them may be two seconds old.
    """
    kinds = {row.kind for row in rows if row.state == "in_force" and instance in instances_of(row, cluster)}
    if not kinds:
        return None
    return Kind.MAINTENANCE if Kind.MAINTENANCE in kinds else Kind.DRAIN


def worst(words: Iterable[str], reported: Iterable[str]) -> str:
    """Return the first of the words that was reported, or `unknown`."""
    return next((word for word in words if word in set(reported)), UNKNOWN)
