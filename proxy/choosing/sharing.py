"""The workers of one gateway share open breakers, health check results and downtimes, once a second through Redis.

Without Redis each worker uses only its own results.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.exclusive_lease import extend_lease, take_lease
from lucid_gateway.policy import keys
from proxy.choosing.breaker import State
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.downtimes import Downtimes
from proxy.choosing.health_checks import HealthChecker, checked_health
from proxy.choosing.instances import NEVER_OPENS, InstanceState, states_of
from proxy.choosing.reports import write_report
from proxy.clusters import Cluster, configured

SECONDS = 1.0
CHECKER_LEASE_MS = 5_000
KEPT_SECONDS = 120
EDGE_CURRENT_SECONDS = 5.0  # a worker of nginx that has ended says nothing more
# A check takes two seconds at most.
FIRST_RESULTS_SECONDS, FIRST_PAUSE_SECONDS = 3.0, 0.1
Instances = list[tuple[Cluster, InstanceState]]


class FirstResults:
    """The time, by time.monotonic(), until which this worker expects the first results of its health checks."""

    due_at = 0.0


first_results = FirstResults()


def all_instances() -> Instances:
    """Return this process's state of each instance of the configured clusters."""
    return [(cluster, state) for cluster in configured().values() for state in states_of(cluster)]


class Sharing:
    """Exchanges one worker's view of the instances with the other workers."""

    def __init__(self, instances: Callable[[], Instances]) -> None:
        self.worker = uuid.uuid4().hex
        self.instances = instances
        self.checker = HealthChecker()
        self.known_open: set[str] = set()
        self.downtimes = Downtimes()

    def sync(self) -> None:
        """Adopt the other workers' results, write this worker's, and report to operators; raise RedisUnavailable."""
        try:
            self.exchange()
        finally:  # in a cluster, another node may have the reports
            with suppress(RedisUnavailable):
                write_report(state for _, state in self.instances())

    def exchange(self) -> None:
        instances = self.instances()
        if settings.ENV.EDGE_SECRET:
            share_places()
        enabled = settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED
        checks = enabled and self.is_checker()
        breakers, health, downtimes = self.read()
        self.downtimes.adopt([state for _, state in instances], downtimes)
        changes = {state.name: self.adopt(state, breakers.get(state.name)) for _, state in instances}
        if checks:
            health = self.check()
        elif enabled:
            self.set_health(health)
        self.write([state for _, state in instances], changes, health if checks else {})

    def check(self) -> dict[str, bool]:
        """Start the health checks that are due, and apply and return the results so far, by name of instance."""
        self.checker.start_due(self.instances())
        results = self.checker.verdicts()
        self.set_health(results)
        return results

    def set_health(self, results: Mapping[str, bool]) -> None:
        for _, state in self.instances():
            if state.name in results:
                state.set_health(results[state.name])

    def share_once(self) -> None:
        """Update the metrics and synchronise; without Redis this worker checks the instances itself."""
        self.measure()
        try:
            self.sync()
        except RedisUnavailable:
            if settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED:
                self.check()

    def share_quickly_at_first(self) -> None:
        """Share once or, just after the start of the worker, until the health of each checked cluster is known."""
        self.share_once()
        while time.monotonic() < first_results.due_at and any(
            checked_health(cluster) is None for cluster, _ in self.instances()
        ):
            time.sleep(FIRST_PAUSE_SECONDS)
            self.share_once()

    def measure(self) -> None:
        """Set the metrics of open breakers and of requests in progress, and note which instances are down."""
        for cluster, state in self.instances():
            state.note_whether_down()
            is_open = state.breaker.state == State.OPEN
            metrics.BREAKER_OPEN.labels(cluster.name, state.instance.url).set(is_open)
            metrics.UPSTREAM_IN_FLIGHT.labels(cluster.name).set(bulkhead_of(cluster.name).taken)

    def is_checker(self) -> bool:
        """Return whether this worker runs the health checks; another takes over five seconds after it stops."""
        lease = keys.health_checker(gateway_name())
        taken = take_lease(lease, self.worker, milliseconds=CHECKER_LEASE_MS)
        chosen = taken or extend_lease(lease, self.worker, milliseconds=CHECKER_LEASE_MS)
        if not chosen:
            self.checker.forget()
        return chosen

    def read(self) -> tuple[dict[str, float], dict[str, bool], dict[bytes, bytes]]:
        """Return the end of each open breaker's pause (epoch seconds), whether instances are healthy, and downtimes, by
        name.
        """

        def query(redis: Any) -> Any:
            return (
                redis.pipeline(transaction=False)
                .hgetall(keys.open_breakers(gateway_name()))
                .hgetall(keys.instance_health(gateway_name()))
                .hgetall(keys.downtimes(gateway_name()))
                .execute()
            )

        breakers, health, downtimes = redis_call(keys.open_breakers(gateway_name()), query)
        open_until = {name.decode(): json.loads(text) for name, text in breakers.items()}
        return open_until, {name.decode(): text == b"healthy" for name, text in health.items()}, downtimes

    def adopt(self, state: InstanceState, shared_until: float | None) -> float | None:
        """Open or close the breaker as another worker did; return the end of its pause, or None if it is closed.

        Both times are in epoch seconds.
        """
        breaker, now = state.breaker, time.time()
        known = state.name in self.known_open
        may_open = not known and not breaker.open_until and breaker.rule is not NEVER_OPENS
        if known and breaker.open_until and shared_until is None:
            breaker.close()
            state.recovered_at = state.clock()
        elif may_open and shared_until is not None and shared_until > now:
            breaker.open(min(shared_until - now, breaker.rule.longest_pause))  # the clock may have been set back
        return now + breaker.open_until - state.clock() if breaker.open_until else None

    def write(self, states: list[InstanceState], changes: dict[str, float | None], verdicts: dict[str, bool]) -> None:
        """Write open breakers, those this worker has closed, and health check results."""

        def send(redis: Any) -> None:
            pipeline = redis.pipeline(transaction=False)
            for name, until in changes.items():
                if until is not None:
                    pipeline.hset(keys.open_breakers(gateway_name()), name, json.dumps(until))
                elif name in self.known_open:
                    pipeline.hdel(keys.open_breakers(gateway_name()), name)
            for name, healthy in verdicts.items():
                pipeline.hset(keys.instance_health(gateway_name()), name, "healthy" if healthy else "unhealthy")
            # Entries that no worker renews expire.
            if any(changes.values()):
                pipeline.expire(keys.open_breakers(gateway_name()), KEPT_SECONDS)
            if verdicts:
                pipeline.expire(keys.instance_health(gateway_name()), KEPT_SECONDS)
            self.downtimes.write(pipeline, states)
            pipeline.execute()

        redis_call(keys.open_breakers(gateway_name()), send)
        self.known_open = {name for name, until in changes.items() if until is not None}


def share_places() -> None:
    """Leave places in the bulkheads for the requests that the edge has in progress; raise RedisUnavailable."""
    at_edge: Counter[str] = Counter()
    # Any: redis-py's type covers clients that decode, too.
    key = keys.edge_in_flight(gateway_name())
    found: dict[Any, Any] = redis_call(key, lambda redis: redis.hgetall(key))
    for text in found.values():
        entry = json.loads(text)
        if time.time() - entry["at"] <= EDGE_CURRENT_SECONDS:
            at_edge.update(entry["clusters"])
    for name in configured():
        bulkhead_of(name).at_edge = at_edge[name] / settings.ENV.WEB_CONCURRENCY


def start_sharing() -> None:
    """Start sharing in the background; call it once in each worker, after the fork."""
    if settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED:
        first_results.due_at = time.monotonic() + FIRST_RESULTS_SECONDS
    Loop("sharing", Sharing(all_instances).share_quickly_at_first, every=SECONDS, at_once=True).start()
