"""What the workers of all gateways report on a cluster: their places in its bulkhead, and their breakers."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.choosing.breaker import State
from proxy.choosing.bulkhead import Bulkhead
from proxy.choosing.closures import is_closed
from proxy.choosing.reports import InstanceReport
from proxy.clusters import Cluster


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What one worker would do with a request to the cluster now.

    `available` are the addresses of the instances that it may ask; without any, one may be asked in `retry_after`
    seconds.
    """

    taken: int
    available: tuple[str, ...]
    retry_after: int

    def is_full(self, bulkhead: Bulkhead) -> bool:
        """Return whether all places of the worker's bulkhead are taken."""
        return self.taken >= bulkhead.places


def worker_views(cluster: Cluster, reports: Iterable[InstanceReport]) -> list[WorkerView]:
    """Return the view of each worker that has reported on the cluster."""
    of_workers: dict[tuple[str, int], list[InstanceReport]] = {}
    for report in reports:
        if report.cluster == cluster.name:
            of_workers.setdefault((report.gateway, report.worker), []).append(report)
    return [worker_view(cluster, found) for found in of_workers.values()]


def worker_view(cluster: Cluster, reports: list[InstanceReport]) -> WorkerView:
    """Return one worker's view; an instance out of service is not available."""
    in_service = {instance.url for instance in cluster.instances if not is_closed(cluster.name, instance)}
    found = [report for report in reports if report.instance in in_service]
    pauses = [report.open_until - time.time() for report in found]
    return WorkerView(
        taken=sum(report.in_flight for report in reports),
        available=tuple(report.instance for report in found if report.breaker != State.OPEN),
        retry_after=max(1, math.ceil(min(pauses, default=0.0))),
    )
