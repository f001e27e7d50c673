"""What each worker of each gateway says of the clusters' instances, for operators to see."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InstanceReport:
    """One worker's view of one instance. `breaker` is closed, open or half-open, `open_until` epoch seconds;
    `health` is healthy, unhealthy or unknown; the counts are since the worker started.
    """

    gateway: str
    worker: int
    cluster: str
    instance: str
    in_flight: int
    breaker: str
    open_until: float
    health: str
    requests: int
    failures: int


def read_reports() -> list[InstanceReport]:
    """Return the reports of the last seconds; raise RedisUnavailable."""
    return []
