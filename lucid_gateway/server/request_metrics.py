"""Counts each request from its record.

This is on the hot path, so the metric for each set of labels is looked up once and then cached.
"""

import logging
import os
from functools import cache

from prometheus_client import Counter, Histogram

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.env import metrics_directory
from lucid_gateway.kernel.metrics_files.last_minute import Ring
from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.server.samples import count_request

logger = logging.getLogger(__name__)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Error code -> the outcome of a request that got no answer from its cluster.
FAILURES = {"LUCID_ERR_5003": "bad_answer", "LUCID_ERR_5005": "unreachable", "LUCID_ERR_5006": "timeout"}
CLIENT_LEFT = 499
# Reason of a refusal before the application -> its name in the metric.
EARLY_REFUSALS = {
    "malformed_request": "malformed", "internal_error": "failed", "gateway_not_ready": "not_ready",
    "address_denied": "blocked_address", "address_blocked": "blocked_address",
}  # fmt: skip
REFUSALS = {"LUCID_ERR_5007": "breaker", "LUCID_ERR_5009": "maintenance"}


@cache
def own_ring() -> Ring:
    """Return this process's last minute, created on first use, after the fork. Other workers can read it only if there
    is a metrics folder.
    """
    directory = metrics_directory()
    if directory is not None:
        try:
            return Ring(directory / f"last_minute_{os.getpid()}.bin")
        except OSError as error:
            logger.warning("no space for the metrics of the last minute", extra={"error": type(error).__name__})
    return Ring()


@cache
def request_counters(plane: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(plane, method, route, status), metrics.REQUEST_SECONDS.labels(plane, method, route)


@cache
def upstream_counters(plane: str, cluster: str, outcome: str) -> tuple[Counter, Histogram]:
    return metrics.UPSTREAM_REQUESTS.labels(plane, cluster, outcome), metrics.UPSTREAM_SECONDS.labels(plane, cluster)


def count_refused(record: RequestRecord, status: int, n: int = 1) -> None:
    """Count `n` requests that were refused before the application, like this one."""
    count_request(record, status, None, n=n)
    metrics.REFUSED.labels(record.plane, EARLY_REFUSALS[record.reason or ""]).inc(n)


def begin() -> None:
    metrics.REQUESTS_IN_FLIGHT.inc()


def end(record: RequestRecord, status: int, seconds: float, outcome: str) -> None:
    """Count the end of a request that has begun here; `outcome` is that of the access log."""
    metrics.REQUESTS_IN_FLIGHT.dec()
    count(record, status, seconds, outcome)


def count(record: RequestRecord, status: int, seconds: float, outcome: str, n: int = 1) -> None:
    """Count `n` finished requests like this one."""
    if not metrics.ENABLED:
        return
    route = record.route or "unmatched"
    method = record.method if record.method in METHODS else "other"
    requests, durations = request_counters(record.plane, method, route, status)
    requests.inc(n)
    metrics.observe(durations, seconds, n)
    own_ring().note(seconds, failed=status >= 500, n=n)
    if outcome != "complete":
        metrics.ANSWERS_CUT.labels(record.plane, outcome).inc(n)
    if record.cache:
        metrics.RESPONSE_CACHE.labels(route, record.cache).inc(n)
    if record.cluster is not None:
        count_upstream(record, record.cluster, status, cut=outcome == "upstream_cut", n=n)
    if status == 429 and record.limits is not None and not record.limits.admitted:
        # A 429 that the cluster itself sent does not count.
        metrics.RATE_LIMITED.labels(record.plane, record.limits.tier_name).inc(n)


def count_upstream(record: RequestRecord, cluster: str, status: int, *, cut: bool, n: int) -> None:
    """Count the outcome of requests at their cluster, unless they were answered without the cluster."""
    attempts, error_code = len(record.attempts), record.error_code or ""
    if attempts > 1:
        metrics.UPSTREAM_RETRIES.labels(record.plane, cluster).inc((attempts - 1) * n)
    if error_code in REFUSALS:
        metrics.CLUSTER_REFUSED.labels(cluster, REFUSALS[error_code]).inc(n)
    elif record.upstream_status is not None:
        outcome = "cut" if cut else f"{record.upstream_status // 100}xx"
        requests, durations = upstream_counters(record.plane, cluster, outcome)
        requests.inc(n)
        metrics.observe(durations, (record.upstream_ms or 0) / 1000, n)
    elif error_code in FAILURES or (status == CLIENT_LEFT and attempts):
        upstream_counters(record.plane, cluster, FAILURES.get(error_code, "client_left"))[0].inc(n)
