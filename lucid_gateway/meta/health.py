"""The health of what the gateway depends on: database and Redis are asked, of clusters the health checks know it."""

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
from proxy.choosing.health_checks import finding_on
from proxy.clusters import configured

ANSWER_WITHIN_SECONDS = 0.9
REMEMBERED_SECONDS = 1.0
HEALTHY, UNHEALTHY, UNKNOWN = "healthy", "unhealthy", "unknown"


@dataclass(frozen=True)
class Health:
    """The overall status, and each dependency's: healthy, unhealthy, or unknown: a store that did not answer
    in time, a cluster that was not checked yet."""

    status: str
    dependencies: Mapping[str, str]


class StoreProbe:
    """Asks one store: at most one question at a time, whose answer is kept for a second."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self.question = question
        self.asked_at = float("-inf")
        self.lock = threading.Lock()
        self.future: Future[bool] | None = None

    def ask(self, executor: ThreadPoolExecutor) -> "Future[bool]":
        """Return the question under way, the remembered answer, or a new question."""
        with self.lock:
            stale = time.monotonic() - self.asked_at > REMEMBERED_SECONDS
            if self.future is None or (self.future.done() and stale):
                self.asked_at = time.monotonic()
                self.future = executor.submit(self.question)
            return self.future


def database_answers() -> bool:
    """Return whether the database answers."""
    try:
        connection.ensure_connection()
        if connection.vendor == "mongodb":
            connection.database.command("ping")  # type: ignore[attr-defined]
        else:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    finally:
        connection.close()
    return True


def redis_answers() -> bool:
    """Return whether Redis answers."""
    try:
        ping()
    except RedisUnavailable:
        return False
    return True


@cache
def probes() -> dict[str, StoreProbe]:
    """Return the probe of each store, by its name in the answer."""
    return {"database": StoreProbe(database_answers), "redis": StoreProbe(redis_answers)}


@cache
def executor() -> ThreadPoolExecutor:
    """Return the threads that ask; made on first use, after the worker was forked."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")


def stores() -> dict[str, str]:
    """Return what is known of each store, within a second whatever hangs."""
    futures = {name: probe.ask(executor()) for name, probe in probes().items()}
    wait(futures.values(), timeout=ANSWER_WITHIN_SECONDS)
    return {name: word_for(answer_of(future)) for name, future in futures.items()}


def answer_of(future: "Future[bool]") -> bool | None:
    """Return what a question found, None while it is under way."""
    if not future.done():
        return None
    return future.exception() is None and future.result()


def word_for(healthy: bool | None) -> str:
    """Return the word for a finding."""
    return {None: UNKNOWN, True: HEALTHY, False: UNHEALTHY}[healthy]


def check() -> Health:
    """Return the health: stores are asked, of clusters it is what the health checks found.

    Clusters that are not checked, as in maintenance, are unknown and do not count in the overall status.
    """
    asked = stores()
    checked = {name: word_for(finding_on(cluster)) for name, cluster in configured().items() if is_checked(name)}
    return Health(overall(asked | checked), asked | dict.fromkeys(configured(), UNKNOWN) | checked)


def is_checked(cluster: str) -> bool:
    """Return whether health checks ask the cluster: they are switched on, and it is not in maintenance."""
    return settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED and not is_expected_down(cluster)


def overall(dependencies: Mapping[str, str]) -> str:
    """Return `unhealthy` when nobody can be let in: database and Redis both gone (DESIGN, section 5)."""
    if all(state == HEALTHY for state in dependencies.values()):
        return HEALTHY
    stores_gone = all(dependencies[store] != HEALTHY for store in ("database", "redis"))
    return UNHEALTHY if stores_gone else "degraded"
