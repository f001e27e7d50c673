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
def request_counters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.REQUESTS.labels(method, route, status), metrics.REQUEST_SECONDS.labels(method, route)


@cache
def upstream_counters(cluster: str, outcome: str) -> tuple[Counter, Histogram]:
    return metrics.UPSTREAM_REQUESTS.labels(cluster, outcome), metrics.UPSTREAM_SECONDS.labels(cluster)


def count_refused(record: RequestRecord, status: int) -> None:
    """Count a request that was refused before the application."""
    count_request(record, status, None)
    metrics.REFUSED.labels(EARLY_REFUSALS[record.reason or ""]).inc()


def begin() -> None:
    metrics.REQUESTS_IN_FLIGHT.inc()


def count(record: RequestRecord, status: int, seconds: float, outcome: str) -> None:
    """Count a finished request; `outcome` is that of the access log."""
    if not metrics.ENABLED:
        return
    metrics.REQUESTS_IN_FLIGHT.dec()
    route = record.route or "unmatched"
    requests, durations = request_counters(record.method if record.method in METHODS else "other", route, status)
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
        # A 429 that the cluster itself sent does not count.
        metrics.RATE_LIMITED.labels(record.limits.tier_name).inc()


def count_upstream(record: RequestRecord, cluster: str, status: int, *, cut: bool) -> None:
    """Count the outcome of a request at its cluster, unless it was answered without the cluster."""
    attempts, error_code = len(record.attempts), record.error_code or ""
    if attempts > 1:
        metrics.UPSTREAM_RETRIES.labels(cluster).inc(attempts - 1)
    if error_code in REFUSALS:
        metrics.CLUSTER_REFUSED.labels(cluster, REFUSALS[error_code]).inc()
    elif record.upstream_status is not None:
        requests, durations = upstream_counters(cluster, "cut" if cut else f"{record.upstream_status // 100}xx")
        requests.inc()
        durations.observe((record.upstream_ms or 0) / 1000)
    elif error_code in FAILURES or (status == CLIENT_LEFT and attempts):
        upstream_counters(cluster, FAILURES.get(error_code, "client_left"))[0].inc()
