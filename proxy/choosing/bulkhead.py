"""The bulkhead: limits the concurrent requests to one cluster in each worker, so a hung cluster cannot block others."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.policy.errors import ServiceUnavailable


class Bulkhead:
    """One cluster's limit on concurrent requests in this process."""

    def __init__(self, cluster: str, places: int) -> None:
        self.cluster, self.places = cluster, places
        self.taken = 0
        self.at_edge = 0.0  # this process's share of the requests in progress at the edge

    def enter(self) -> None:
        """Take a place; raise ServiceUnavailable, without waiting, if all are taken."""
        if self.taken + self.at_edge >= self.places:
            metrics.CLUSTER_REFUSED.labels(self.cluster, "bulkhead").inc()
            raise self.error()
        self.taken += 1

    def error(self) -> ServiceUnavailable:
        """Return the error for a request that finds no place."""
        details = {"cluster": self.cluster, "reason": "too many requests in progress"}
        return ServiceUnavailable("Cluster is busy", details=details, retry_after=1, reason="cluster_busy")

    def leave(self) -> None:
        self.taken -= 1

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place until the block ends; raise ServiceUnavailable if all are taken."""
        self.enter()
        try:
            yield
        finally:
            self.leave()


@cache
def bulkhead_of(cluster: str) -> Bulkhead:
    return Bulkhead(cluster, settings.ENV.CLUSTER_MAX_IN_FLIGHT)
