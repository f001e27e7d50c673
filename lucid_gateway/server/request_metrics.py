"""Counts each request, by its record.

On the hot path: each metric's child is looked up once, and then found by one dictionary.
"""

import logging
import os
from functools import cache

from prometheus_client import Counter, Histogram

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.env import metrics_directory
from lucid_gateway.kernel.metrics_files.last_minute import Ring
from lucid_gateway.kernel.record import RequestRecord

logger = logging.getLogger(__name__)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Error codes -> what became of a request that brought no answer of its cluster.
FAILURES = {"LUCID_ERR_5003": "bad_answer", "LUCID_ERR_5005": "unreachable", "LUCID_ERR_5006": "timeout"}
CLIENT_LEFT = 499
# Reasons of refusals before the application -> their names in the metric.
BEFORE_THE_APPLICATION = {
    "malformed_request": "malformed", "internal_error": "failed", "gateway_not_ready": "not_ready",
    "address_denied": "blocked_address", "address_blocked": "blocked_address",
}  # fmt: skip
REFUSALS = {"LUCID_ERR_5007": "breaker", "LUCID_ERR_5009": "maintenance"}


@cache
def own_ring() -> Ring:
    """Return this process's last minute, made on first use, after the fork; others cannot read it without a folder."""
    directory = metrics_directory()
    if directory is not None:
        try:
            return Ring(directory / f"last_minute_{os.getpid()}.bin")
        except OSError as error:
            logger.warning("no room for the last minute", extra={"error": type(error).__name__})
    return Ring()


@cache
def of_requests(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return what counts requests of that kind."""
    return metrics.REQUESTS.labels(method, route, status), metrics.REQUEST_SECONDS.labels(method, route)


@cache
def of_upstream(cluster: str, outcome: str) -> tuple[Counter, Histogram]:
    """Return what counts requests to that cluster with that outcome."""
    return metrics.UPSTREAM_REQUESTS.labels(cluster, outcome), metrics.UPSTREAM_SECONDS.labels(cluster)


def count_refused(record: RequestRecord) -> None:
    """Count a request that was refused before the application."""
    metrics.REFUSED.labels(BEFORE_THE_APPLICATION[record.reason or ""]).inc()


def begin() -> None:
    """Note that a request has come."""
    metrics.REQUESTS_IN_FLIGHT.inc()


def count(record: RequestRecord, status: int, seconds: float, outcome: str) -> None:
    """Count a request that is over; `outcome` is the access log's."""
    if not metrics.ENABLED:
        return
    metrics.REQUESTS_IN_FLIGHT.dec()
    route = record.route or "unmatched"
    requests, durations = of_requests(record.method if record.method in METHODS else "other", route, status)
    requests.inc()
    durations.observe(seconds)
    own_ring().note(seconds, failed=status >= 500)
    if outcome != "complete":
        metrics.ANSWERS_CUT.labels(outcome).inc()
    if record.cache:
        metrics.RESPONSE_CACHE.labels(route, record.cache).inc()
    if record.cluster is not None:
        count_upstream(record, record.cluster, status, cut=outcome == "upstream_cut")
    if status == 429 and record.limits is not None and not record.limits.admitted:
        # A 429 of a cluster's own is none of the limits.
        metrics.RATE_LIMITED.labels(record.limits.tier_name).inc()


def count_upstream(record: RequestRecord, cluster: str, status: int, *, cut: bool) -> None:
    """Count the outcome of a request at its cluster; nothing if it was answered without asking the cluster."""
    attempts, error_code = len(record.attempts), record.error_code or ""
    if attempts > 1:
        metrics.UPSTREAM_RETRIES.labels(cluster).inc(attempts - 1)
    if error_code in REFUSALS:
        metrics.CLUSTER_REFUSED.labels(cluster, REFUSALS[error_code]).inc()
    elif record.upstream_status is not None:
        requests, durations = of_upstream(cluster, "cut" if cut else f"{record.upstream_status // 100}xx")
        requests.inc()
        durations.observe((record.upstream_ms or 0) / 1000)
    elif error_code in FAILURES or (status == CLIENT_LEFT and attempts):
        of_upstream(cluster, FAILURES.get(error_code, "client_left"))[0].inc()
