"""The health of the gateway's dependencies: it queries the database and Redis, and reads the results of the clusters'
health checks.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.db import DatabaseError, connection

from lucid_gateway.kernel.redis.access import RedisUnavailable, ping
from proxy.choosing.closures import is_expected_down
from proxy.choosing.health_checks import checked_health
from proxy.choosing.sharing import first_results
from proxy.clusters import configured

ANSWER_WITHIN_SECONDS = 0.9
REMEMBERED_SECONDS = 1.0
HEALTHY, UNHEALTHY, UNKNOWN = "healthy", "unhealthy", "unknown"


@dataclass(frozen=True)
class Health:
    """The overall status, and each dependency's: healthy, unhealthy or unknown (no answer in time, or no check yet)."""

    status: str
    dependencies: Mapping[str, str]


class StoreProbe:
    """Queries the database or Redis, at most once at a time, and keeps the answer for a second."""

    def __init__(self, query: Callable[[], bool]) -> None:
        self.query = query
        self.asked_at = float("-inf")
        self.lock = threading.Lock()
        self.future: Future[bool] | None = None

    def ask(self, executor: ThreadPoolExecutor) -> "Future[bool]":
        """Return the query in progress, the remembered answer or a new query."""
        with self.lock:
            stale = time.monotonic() - self.asked_at > REMEMBERED_SECONDS
            if self.future is None or (self.future.done() and stale):
                self.asked_at = time.monotonic()
                self.future = executor.submit(self.query)
            return self.future


def database_answers() -> bool:
    try:
        connection.ensure_connection()
        if connection.vendor == "mongodb":
            connection.server_time()  # type: ignore[attr-defined]
        else:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    finally:
        connection.close()
    return True


def redis_answers() -> bool:
    try:
        ping()
    except RedisUnavailable:
        return False
    return True


@cache
def probes() -> dict[str, StoreProbe]:
    """Return the probes by their store's name in the answer."""
    return {"database": StoreProbe(database_answers), "redis": StoreProbe(redis_answers)}


@cache
def executor() -> ThreadPoolExecutor:
    """Return the probes' threads, created on first use, after the worker was forked."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")


def stores() -> dict[str, str]:
    """Return the status of each store, within a second even if one hangs."""
    futures = {name: probe.ask(executor()) for name, probe in probes().items()}
    wait(futures.values(), timeout=ANSWER_WITHIN_SECONDS)
    return {name: status_of(answer_of(future)) for name, future in futures.items()}


def answer_of(future: "Future[bool]") -> bool | None:
    """Return the result of a query, or None while it is in progress."""
    if not future.done():
        return None
    return future.exception() is None and future.result()


def status_of(healthy: bool | None) -> str:
    return {None: UNKNOWN, True: HEALTHY, False: UNHEALTHY}[healthy]


def check() -> Health:
    """Query the stores, and read the results of the clusters' health checks; wait for the first ones after a start.

    A cluster that is not checked, such as one in maintenance, is unknown and does not affect the overall status.
    """
    deadline = time.monotonic() + ANSWER_WITHIN_SECONDS
    queried, checked = stores(), clusters()
    while UNKNOWN in checked.values() and time.monotonic() < min(deadline, first_results.due_at):
        time.sleep(0.05)
        checked = clusters()
    return Health(overall(queried | checked), queried | dict.fromkeys(configured(), UNKNOWN) | checked)


def clusters() -> dict[str, str]:
    """Return the status of each cluster that is checked."""
    return {name: status_of(checked_health(cluster)) for name, cluster in configured().items() if is_checked(name)}


def is_checked(cluster: str) -> bool:
    """Return whether health checks are enabled and the cluster is not in maintenance."""
    return settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED and not is_expected_down(cluster)


def overall(dependencies: Mapping[str, str]) -> str:
    """Return `unhealthy` if no caller can be authenticated, without both database and Redis."""
    if all(state == HEALTHY for state in dependencies.values()):
        return HEALTHY
    stores_down = all(dependencies[store] != HEALTHY for store in ("database", "redis"))
    return UNHEALTHY if stores_down else "degraded"
