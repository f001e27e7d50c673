"""Every metric of the gateway, with its labels and the code that counts it. docs/operations.md explains them.

Clients cannot choose the value of a label: routes are URL patterns; methods and outcomes come from fixed sets. The
plane is `gateway`, or `edge` for what the edge has reported.
"""

import platform
from bisect import bisect_left
from typing import Any, Self, cast

from prometheus_client import Counter, Gauge, Histogram

from lucid_gateway import __version__
from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.metrics_files.reserved_files import use_reserved_files

ENABLED = environment().METRICS_ENABLED
use_reserved_files()
SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class NoMetric:
    """Replaces each metric if METRICS_ENABLED is false, and ignores all values."""

    def labels(self, *_: object, **__: object) -> Self:
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    dec = set = observe = inc


def counter(name: str, text: str, *labels: str) -> Counter:
    """Return a counter; its name must end in _total."""
    return Counter(name, text, labels) if ENABLED else cast(Counter, NoMetric())


def histogram(name: str, text: str, *labels: str) -> Histogram:
    """Return a histogram of seconds."""
    return Histogram(name, text, labels, buckets=SECONDS) if ENABLED else cast(Histogram, NoMetric())


def observe(one: Histogram, seconds: float, n: int = 1) -> None:
    """Add `n` durations of so many seconds to a histogram with its labels."""
    if n == 1:
        one.observe(seconds)
    elif ENABLED:
        # prometheus_client has no public way to add several at once.
        one._sum.inc(seconds * n)
        one._buckets[bisect_left(one._upper_bounds, seconds)].inc(n)


def gauge(name: str, text: str, *labels: str, over_workers: Any = "livesum") -> Gauge:
    """Return a gauge. Its value is the sum over the living workers or, with `livemax`, the maximum."""
    return Gauge(name, text, labels, multiprocess_mode=over_workers) if ENABLED else cast(Gauge, NoMetric())


# Requests: the access log counts them when the kernel has taken the last byte.
REQUESTS = counter("lucid_requests_total", "Requests answered", "plane", "method", "route", "status")
REQUEST_SECONDS = histogram(
    "lucid_request_duration_seconds", "From the head to the last byte of the answer", "plane", "method", "route"
)
REQUESTS_IN_FLIGHT = gauge("lucid_requests_in_flight", "Requests in progress, including streams")
ANSWERS_CUT = counter("lucid_answers_cut_total", "Answers that were not sent completely", "plane", "outcome")
RATE_LIMITED = counter("lucid_rate_limited_total", "Requests refused by a tier", "plane", "tier")

# gunicorn's worker counts these before Django sees them; none of the above metrics includes such requests.
REFUSED = counter("lucid_refused_requests_total", "Requests refused before the application", "plane", "reason")
CONNECTIONS = gauge("lucid_connections_open", "Open client connections")
WORKERS = gauge("lucid_workers", "Living workers")

# Clusters: the access log counts these three, from the request's record.
UPSTREAM_REQUESTS = counter("lucid_upstream_requests_total", "Forwarded requests", "plane", "cluster", "outcome")
UPSTREAM_SECONDS = histogram("lucid_upstream_duration_seconds", "Time to the head of the answer", "plane", "cluster")
UPSTREAM_RETRIES = counter("lucid_upstream_retries_total", "Attempts after the first one", "plane", "cluster")
# The access log counts refusals by breaker (5007) and maintenance (5009); other code counts its own refusals.
CLUSTER_REFUSED = counter("lucid_cluster_refused_total", "Requests not forwarded to a cluster", "cluster", "reason")
OWN_CALLS_FAILED = counter("lucid_own_calls_failed_total", "The gateway's own requests that failed", "cluster", "kind")
# proxy/choosing/sharing.py measures these two once a second.
UPSTREAM_IN_FLIGHT = gauge("lucid_upstream_in_flight", "Requests to a cluster in progress", "cluster")
BREAKER_OPEN = gauge(
    "lucid_breaker_open", "1 while a worker's breaker is open", "cluster", "instance", over_workers="livemax"
)
# The edge reports this.
RESPONSE_CACHE = counter("lucid_response_cache_total", "Lookups in the response cache", "route", "outcome")

EDGE_SNAPSHOT_AGE = gauge(
    "lucid_edge_snapshot_age_seconds", "Age of what the edge knows of the gateway", over_workers="livemax"
)
REDIS_UNAVAILABLE = counter("lucid_redis_unavailable_total", "Calls to Redis that failed")
BUILD_INFO = gauge("lucid_build_info", "Always 1", "version", "python", over_workers="livemax")
BUILD_INFO.labels(__version__, platform.python_version()).set(1)
