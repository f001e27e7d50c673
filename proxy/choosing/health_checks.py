"""Active health checks: one worker of a gateway asks each instance, and the others hear what it found. Without Redis,
through which they hear it, each worker asks for itself.

An instance is unhealthy after three failures in a row and healthy after two successes; in between it is asked every
second. It answers with anything below 500 within two seconds, or it failed.
"""

import threading
import time
from collections.abc import Callable, Iterable

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.policy.errors import GatewayError
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.closures import is_unwatched
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Cluster, Instance
from proxy.connection.exchange import exchange, head_of
from proxy.connection.resolver import resolver
from proxy.connection.upstream import Connection

FAILURES, PASSES = 3, 2
UNSETTLED_SECONDS = 1.0
CHECK = Timeouts(connect=2.0, read=2.0, total=2.0)


def answers(instance: Instance, path: str, timeouts: Timeouts = CHECK) -> bool:
    """Return whether the instance, where its name leads now, answers its health path with anything but a server
    error.
    """
    resolver.renew(instance, within=timeouts.connect)
    try:
        with Connection(instance, timeouts) as upstream:
            head = head_of("GET", path, [("host", instance.authority), ("connection", "close")])
            status = exchange(upstream, "GET", head, timeouts=timeouts).status
            upstream.close()
    except (OSError, GatewayError):
        return False
    return status < 500


def finding_on(cluster: Cluster) -> bool | None:
    """Return whether the checks found a healthy instance of the cluster, None before they have found out.

    Instances in maintenance do not count.
    """
    found = [state.healthy for state in states_of(cluster) if not is_unwatched(cluster.name, state.instance)]
    if any(found):
        return True
    return None if None in found else False


class Check:
    """The checks of one instance: what they say, and when the next is due."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.verdict: bool | None = None
        self.last: bool | None = None
        self.streak = 0
        self.due_at = 0.0
        self.running = False

    def note(self, passed: bool, now: float) -> None:
        """Note a result: the first decides at once, later ones when they repeat themselves."""
        self.streak = self.streak + 1 if passed == self.last else 1
        self.last = passed
        if self.verdict is None or self.streak >= (PASSES if passed else FAILURES):
            self.verdict = passed
        settled = self.verdict == passed
        self.due_at = now + (self.interval if settled else min(self.interval, UNSETTLED_SECONDS))


class HealthChecker:
    """The checks of all instances, as the one worker runs them whose turn it is."""

    def __init__(self, ask: Callable[[Instance, str], bool] = answers) -> None:
        self.ask = ask
        self.checks: dict[str, Check] = {}

    def start_due(self, instances: Iterable[tuple[Cluster, InstanceState]]) -> None:
        """Start the checks that are due, each beside the others: one that hangs delays none. What is in maintenance is
        not asked.
        """
        now = time.monotonic()
        for cluster, state in instances:
            if is_unwatched(cluster.name, state.instance):
                self.checks.pop(state.name, None)  # what was known before says nothing after it
                continue
            check = self.checks.setdefault(state.name, Check(settings.ENV.HEALTH_CHECK_INTERVAL))
            if not check.running and check.due_at <= now:
                check.running = True
                threading.Thread(
                    target=self.run, args=[check, cluster, state], name="health-check", daemon=True
                ).start()

    def run(self, check: Check, cluster: Cluster, state: InstanceState) -> None:
        """Ask the instance once."""
        try:
            passed = self.ask(state.instance, cluster.health_path)
            check.note(passed, time.monotonic())
            if not passed:
                metrics.OWN_CALLS_FAILED.labels(cluster.name, "health_check").inc()
        finally:
            check.running = False

    def verdicts(self) -> dict[str, bool]:
        """Return what is known of the instances, by name."""
        return {name: check.verdict for name, check in self.checks.items() if check.verdict is not None}

    def forget(self) -> None:
        """Forget all: another worker checks."""
        self.checks.clear()
