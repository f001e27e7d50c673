"""Which instances still serve the callers of a cluster while maintenance is in force, with all that overlaps it."""

from collections.abc import Iterator
from datetime import datetime

from proxy.models import Maintenance
from proxy.operators.overview import ClusterView, InstanceView, clusters


def left_serving(row: Maintenance) -> list[InstanceView]:
    """Return the instances that serve while `row`, which need not be saved, is in force: at the time when other
    maintenance leaves the fewest. An instance that is down now counts as one that stays down.
    """
    found, _ = clusters()
    view = next(view for view in found if view.name == row.cluster)
    return min((serving_at(moment, row, view) for moment in starts_during(row, view.maintenance)), key=len)


def starts_during(row: Maintenance, others: tuple[Maintenance, ...]) -> Iterator[datetime]:
    """Yield the times at which instances stop serving: the start of the row, and each start while it lasts."""
    yield row.starts_at
    for other in others:
        if row.starts_at < other.starts_at and (row.ends_at is None or other.starts_at < row.ends_at):
            yield other.starts_at


def serving_at(moment: datetime, row: Maintenance, view: ClusterView) -> list[InstanceView]:
    """Return the instances that neither the row nor other maintenance closes at that time, and that are not down."""
    closing = [row, *(other for other in view.maintenance if is_in_force(other, moment))]
    closed = {each.instance for each in closing}
    return [] if "" in closed else [each for each in view.instances if each.url not in closed and not each.is_down]


def is_in_force(row: Maintenance, moment: datetime) -> bool:
    return row.starts_at <= moment and (row.ends_at is None or row.ends_at > moment)
