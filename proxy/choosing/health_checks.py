"""Active health checks: one worker of a gateway checks each instance and shares the results through Redis; without
Redis each worker checks all instances.

An instance becomes unhealthy after three failures in a row and healthy after two successes; in between it is checked
every second. A check succeeds if the status is below 500 and arrives within two seconds.
"""

import threading
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.policy.errors import GatewayError
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.closures import is_in_maintenance
from proxy.choosing.failures import failure_words, status_words
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Cluster, Instance
from proxy.connection.exchange import exchange, head_of
from proxy.connection.resolver import resolver
from proxy.connection.upstream import Connection

FAILURES, PASSES = 3, 2
UNSETTLED_SECONDS = 1.0
CHECK = Timeouts(connect=2.0, read=2.0, total=2.0)


def problem_of(instance: Instance, path: str, timeouts: Timeouts = CHECK) -> str | None:
    """Ask the instance, at its current address, for `path`. Return None if it answers without a server error, otherwise
    what went wrong, in words for operators.
    """
    resolver.renew(instance, within=timeouts.connect)
    try:
        with Connection(instance, timeouts) as upstream:
            head = head_of("GET", path, [("host", instance.authority), ("connection", "close")])
            status = exchange(upstream, "GET", head, timeouts=timeouts).status
            upstream.close()
    except (OSError, GatewayError) as error:
        return failure_words(error)
    return None if status < 500 else f"{status_words(status)} for {path}"


def checked_health(cluster: Cluster) -> bool | None:
    """Return whether a check found a healthy instance of the cluster, or None while no check has and some are pending.

    Instances in maintenance do not count.
    """
    found = [state.healthy for state in states_of(cluster) if not is_in_maintenance(cluster.name, state.instance)]
    if any(found):
        return True
    return None if None in found else False


class Check:
    """The health of one instance according to its checks, and the time of the next check.

    `verdict` is None before the first result. `due_at` is on the monotonic clock.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.verdict: bool | None = None
        self.last: bool | None = None
        self.streak = 0
        self.due_at = 0.0
        self.running = False

    def note(self, passed: bool, now: float) -> None:
        """Add a result: the first one decides immediately, later ones only when repeated."""
        self.streak = self.streak + 1 if passed == self.last else 1
        self.last = passed
        if self.verdict is None or self.streak >= (PASSES if passed else FAILURES):
            self.verdict = passed
        settled = self.verdict == passed
        self.due_at = now + (self.interval if settled else min(self.interval, UNSETTLED_SECONDS))


class HealthChecker:
    """The health checks of all instances, in the worker that runs them; `find_problem` is one check."""

    def __init__(self, find_problem: Callable[[Instance, str], str | None] = problem_of) -> None:
        self.find_problem = find_problem
        self.checks: dict[str, Check] = {}

    def start_due(self, instances: Iterable[tuple[Cluster, InstanceState]]) -> None:
        """Start the due checks, each in a thread so that a hanging one delays no other; skip maintenance."""
        now = time.monotonic()
        for cluster, state in instances:
            if is_in_maintenance(cluster.name, state.instance):
                self.checks.pop(state.name, None)  # earlier results say nothing about the time after maintenance
                continue
            check = self.checks.setdefault(state.name, Check(settings.ENV.HEALTH_CHECK_INTERVAL))
            if not check.running and check.due_at <= now:
                check.running = True
                threading.Thread(
                    target=self.run, args=[check, cluster, state], name="health-check", daemon=True
                ).start()

    def run(self, check: Check, cluster: Cluster, state: InstanceState) -> None:
        """Check the instance once."""
        try:
            problem = self.find_problem(state.instance, cluster.health_path)
            check.note(problem is None, time.monotonic())
            if problem is not None:
                state.note_error(problem)
                metrics.OWN_CALLS_FAILED.labels(cluster.name, "health_check").inc()
        finally:
            check.running = False

    def verdicts(self) -> dict[str, bool]:
        """Return whether each instance is healthy, by name; instances without a result are left out."""
        return {name: check.verdict for name, check in self.checks.items() if check.verdict is not None}

    def forget(self) -> None:
        """Drop all results, because another worker runs the checks now."""
        self.checks.clear()
