"""Every metric of the gateway: a name, its labels, and who counts it. docs/operations.md lists them for operators.

No label holds what a client chooses: routes are URL patterns, methods and outcomes come from fixed sets.
"""

import platform
from typing import Any, Self, cast

from prometheus_client import Counter, Gauge, Histogram

from lucid_gateway import __version__
from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.metrics_files.room import reserve_room

ENABLED = environment().METRICS_ENABLED
reserve_room()
SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class NoMetric:
    """Stands in for each metric where METRICS_ENABLED is false: takes everything and keeps nothing."""

    def labels(self, *_: object, **__: object) -> Self:
        """Return itself, whatever the labels."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Do nothing."""

    dec = set = observe = inc


def counter(name: str, text: str, *labels: str) -> Counter:
    """Return a counter; its name ends in _total."""
    return Counter(name, text, labels) if ENABLED else cast(Counter, NoMetric())


def histogram(name: str, text: str, *labels: str) -> Histogram:
    """Return a histogram of seconds."""
    return Histogram(name, text, labels, buckets=SECONDS) if ENABLED else cast(Histogram, NoMetric())


def gauge(name: str, text: str, *labels: str, over_workers: Any = "livesum") -> Gauge:
    """Return a gauge; over the living workers its values are added up, or with `livemax` the highest counts."""
    return Gauge(name, text, labels, multiprocess_mode=over_workers) if ENABLED else cast(Gauge, NoMetric())


# Requests: counted by the access log, when the last byte has been handed over.
REQUESTS = counter("lucid_requests_total", "Requests answered", "method", "route", "status")
REQUEST_SECONDS = histogram(
    "lucid_request_duration_seconds", "From the head to the last byte of the answer", "method", "route"
)
REQUESTS_IN_FLIGHT = gauge("lucid_requests_in_flight", "Requests under way, streams included")
ANSWERS_CUT = counter("lucid_answers_cut_total", "Answers that did not go out whole", "outcome")
RATE_LIMITED = counter("lucid_rate_limited_total", "Requests refused by a tier", "tier")

# Counted by gunicorn's worker, before Django: such requests are in none of the above.
REFUSED = counter("lucid_refused_requests_total", "Requests refused before the application", "reason")
CONNECTIONS = gauge("lucid_connections_open", "Open client connections")
WORKERS = gauge("lucid_workers", "Living workers")

# Clusters: these three are counted by the access log, from the request's `upstream` and its error code.
UPSTREAM_REQUESTS = counter("lucid_upstream_requests_total", "Forwarded requests", "cluster", "outcome")
UPSTREAM_SECONDS = histogram("lucid_upstream_duration_seconds", "To the head of the answer", "cluster")
UPSTREAM_RETRIES = counter("lucid_upstream_retries_total", "Second and later instances asked", "cluster")
# The access log counts refusals by breaker (5007) and maintenance (5009); who refuses for another reason counts it.
CLUSTER_REFUSED = counter("lucid_cluster_refused_total", "Requests kept from a cluster", "cluster", "reason")
# These two are measured once a second (proxy/choosing/sharing.py).
UPSTREAM_IN_FLIGHT = gauge("lucid_upstream_in_flight", "Requests under way to a cluster", "cluster")
BREAKER_OPEN = gauge(
    "lucid_breaker_open", "1 while a worker's breaker is open", "cluster", "instance", over_workers="livemax"
)
# Counted by the access log, from what the cache has noted.
RESPONSE_CACHE = counter("lucid_response_cache_total", "Lookups in the response cache", "route", "outcome")

REDIS_UNAVAILABLE = counter("lucid_redis_unavailable_total", "Calls that went without Redis")
BUILD_INFO = gauge("lucid_build_info", "Always 1", "version", "python", over_workers="livemax")
BUILD_INFO.labels(__version__, platform.python_version()).set(1)
