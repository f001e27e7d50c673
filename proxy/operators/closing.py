"""Takes clusters and instances out of service and back in, and writes both to the audit log."""

from datetime import datetime
from uuid import UUID

from django.utils import timezone

from accounts.models import User
from lucid_gateway.audit.events import changed, record
from lucid_gateway.policy.errors import NotFound
from proxy.choosing.closures import closures_cache
from proxy.clusters import Cluster, configured
from proxy.models import Maintenance
from ratelimit.ruling import iso_time

IN_SERVICE = "in service"


def cluster_or_not_found(name: str) -> Cluster:
    """Return the configured cluster with this name; raise NotFound."""
    cluster = configured().get(name)
    if cluster is None:
        raise NotFound()
    return cluster


def close_cluster(
    *,
    cluster: str,
    kind: str,
    reason: str,
    by: User | str,
    instance: str = "",
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Maintenance:
    """Take a cluster, or one of its instances, out of service; all workers follow within seconds.

    Without `starts_at` it starts now; without `ends_at` it lasts until an operator ends it. Raises NotFound or
    ValidationError (Django's).
    """
    row = Maintenance(
        cluster=cluster_or_not_found(cluster).name, instance=instance, kind=kind, reason=reason, ends_at=ends_at,
        starts_at=starts_at or timezone.now(), created_by=str(by),
    )  # fmt: skip
    row.full_clean(validate_unique=False, validate_constraints=False)
    with closures_cache.changing():
        row.save(force_insert=True)
    record(
        "cluster.closed", subject=row.cluster, actor=by, instance=row.instance, closure=row.kind, reason=reason,
        starts=iso_time(row.starts_at), until=iso_time(ends_at),
        changes=changed({"service": IN_SERVICE}, {"service": row.kind}),
    )  # fmt: skip
    return row


def open_cluster(*, cluster: str, by: User | str, instance: str = "", maintenance_id: UUID | None = None) -> int:
    """End maintenance in force or scheduled, now: of the whole cluster, of one instance, or the row `maintenance_id`.

    Opening the cluster leaves maintenance of its instances in place. Returns the number of rows ended; raises NotFound
    if there is none.
    """
    rows = Maintenance.objects.not_over().filter(cluster=cluster)
    rows = rows.filter(instance=instance) if maintenance_id is None else rows.filter(pk=maintenance_id)
    ended = sum(end_maintenance(row, by=by) for row in rows)
    if not ended:
        raise NotFound()
    return ended


def end_maintenance(row: Maintenance, *, by: User | str) -> bool:
    """End one maintenance now and keep the row as history; return False if it was over already."""
    now = timezone.now()
    not_over = Maintenance.objects.not_over(now).filter(pk=row.pk)
    with closures_cache.changing():
        ended = not_over.update(ended_at=now, ended_by=str(by))
    if not ended:
        return False
    record(
        "cluster.opened", subject=row.cluster, actor=by, instance=row.instance, closure=row.kind,
        reason=row.reason, before_its_start=row.starts_at > now,
        changes=changed({"service": row.kind}, {"service": IN_SERVICE}),
    )  # fmt: skip
    return True
