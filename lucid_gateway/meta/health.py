"""The state of what the gateway depends on: asked in the background of a request, remembered for a moment."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.db import DatabaseError, connection

from lucid_gateway.kernel.redis.access import RedisUnavailable, ping
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.closures import is_expected_down
from proxy.choosing.clusters import Cluster, configured
from proxy.choosing.health_checks import answers

ANSWER_WITHIN_SECONDS = 0.9
STORES_REMEMBERED_SECONDS = 1.0
PROBE = Timeouts(connect=0.7, read=0.7, total=0.8)
HEALTHY, UNHEALTHY, UNKNOWN = "healthy", "unhealthy", "unknown"


@dataclass(frozen=True)
class Health:
    """The overall status, and each dependency's: healthy, unhealthy, or unknown when it did not answer in time."""

    status: str
    dependencies: Mapping[str, str]


class Probe:
    """One dependency: at most one question under way, its last answer remembered for `remembered` seconds."""

    def __init__(self, question: Callable[[], bool], remembered: float) -> None:
        self.question, self.remembered = question, remembered
        self.asked_at = float("-inf")
        self.lock = threading.Lock()
        self.future: Future[bool] | None = None

    def ask(self, executor: ThreadPoolExecutor) -> "Future[bool]":
        """Return the question under way, the remembered answer, or a new question."""
        with self.lock:
            stale = time.monotonic() - self.asked_at > self.remembered
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


def cluster_answers(cluster: Cluster) -> bool:
    """Return whether an instance of the cluster answers its health path with anything but a server error."""
    return any(answers(instance, cluster.health_path, PROBE) for instance in cluster.instances)


@cache
def probes() -> dict[str, Probe]:
    """Return a probe for each dependency, by its name in the answer."""
    clusters = {
        name: Probe(lambda cluster=cluster: cluster_answers(cluster), settings.ENV.HEALTH_CHECK_INTERVAL)  # type: ignore[misc]
        for name, cluster in configured().items()
    }
    stores = {"database": database_answers, "redis": redis_answers}
    return {name: Probe(question, STORES_REMEMBERED_SECONDS) for name, question in stores.items()} | clusters


@cache
def executor() -> ThreadPoolExecutor:
    """Return the threads that ask; made on first use, after the worker was forked."""
    return ThreadPoolExecutor(max_workers=12, thread_name_prefix="health")


def state_of(future: "Future[bool]") -> str:
    """Return the word for an answer."""
    if not future.done():
        return UNKNOWN
    return HEALTHY if future.exception() is None and future.result() else UNHEALTHY


def check() -> Health:
    """Return the health, within a second whatever hangs; a cluster in maintenance is not asked and alarms nobody."""
    watched = {name: probe for name, probe in probes().items() if not is_expected_down(name)}
    futures = {name: probe.ask(executor()) for name, probe in watched.items()}
    wait(futures.values(), timeout=ANSWER_WITHIN_SECONDS)
    dependencies = {name: state_of(future) for name, future in futures.items()}
    return Health(overall(dependencies), dict.fromkeys(probes(), UNKNOWN) | dependencies)


def overall(dependencies: Mapping[str, str]) -> str:
    """Return `unhealthy` when nobody can be let in: database and Redis both gone (DESIGN, section 5)."""
    if all(state == HEALTHY for state in dependencies.values()):
        return HEALTHY
    stores_gone = all(dependencies[store] != HEALTHY for store in ("database", "redis"))
    return UNHEALTHY if stores_gone else "degraded"
