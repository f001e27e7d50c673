"""What the workers of one gateway tell one another of the instances, once a second through Redis: open breakers, and
what the health checks found. Without Redis each goes by what it sees itself.
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.exclusive_lease import extend_lease, take_lease
from lucid_gateway.policy import keys
from proxy.choosing.breaker import State
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.health_checks import HealthChecker
from proxy.choosing.instances import NEVER, InstanceState, states_of
from proxy.choosing.probes import gateway_name
from proxy.choosing.reports import write_report
from proxy.clusters import Cluster, configured

SECONDS = 1.0
CHECKER_LEASE_MS = 5_000
KEPT_SECONDS = 120
Instances = list[tuple[Cluster, InstanceState]]


def all_instances() -> Instances:
    """Return the instances of the configured clusters, as this process sees them."""
    return [(cluster, state) for cluster in configured().values() for state in states_of(cluster)]


class Sharing:
    """One worker's part in it."""

    def __init__(self, instances: Callable[[], Instances]) -> None:
        self.worker = uuid.uuid4().hex
        self.instances = instances
        self.checker = HealthChecker()
        self.known_open: set[str] = set()

    def sync(self) -> None:
        """Hear what the others found and tell what is new; raise RedisUnavailable."""
        instances = self.instances()
        enabled = settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED
        checks = enabled and self.is_checker()
        breakers, health = self.read()
        changes = {state.name: self.follow(state, breakers.get(state.name)) for _, state in instances}
        if checks:
            health = self.check()
        elif enabled:
            self.note_health(health)
        self.write([state for _, state in instances], changes, health if checks else {})

    def check(self) -> dict[str, bool]:
        """Start the checks that are due; return, by name of instance, what they have found, and hold it."""
        self.checker.start_due(self.instances())
        found = self.checker.verdicts()
        self.note_health(found)
        return found

    def note_health(self, found: Mapping[str, bool]) -> None:
        """Hold what the health checks found."""
        for _, state in self.instances():
            if state.name in found:
                state.note_health(found[state.name])

    def share_once(self) -> None:
        """Measure, hear and tell; without Redis each goes by what it sees itself, and checks the instances itself."""
        self.measure()
        try:
            self.sync()
        except RedisUnavailable:
            if settings.ENV.CLUSTER_HEALTH_CHECKS_ENABLED:
                self.check()

    def measure(self) -> None:
        """Tell the metrics which breakers are open, and how many requests are under way."""
        for cluster, state in self.instances():
            is_open = state.breaker.state == State.OPEN
            metrics.BREAKER_OPEN.labels(cluster.name, state.instance.url).set(is_open)
            metrics.UPSTREAM_IN_FLIGHT.labels(cluster.name).set(bulkhead_of(cluster.name).taken)

    def is_checker(self) -> bool:
        """Return whether it is this worker that checks: one of a gateway, until it is gone for five seconds."""
        lease = keys.health_checker(gateway_name())
        taken = take_lease(lease, self.worker, milliseconds=CHECKER_LEASE_MS)
        chosen = taken or extend_lease(lease, self.worker, milliseconds=CHECKER_LEASE_MS)
        if not chosen:
            self.checker.forget()
        return chosen

    def read(self) -> tuple[dict[str, float], dict[str, bool]]:
        """Return until when breakers are open (epoch seconds) and which instances are healthy, by name."""

        def ask(redis: Any) -> Any:
            return (
                redis.pipeline(transaction=False)
                .hgetall(keys.open_breakers(gateway_name()))
                .hgetall(keys.instance_health(gateway_name()))
                .execute()
            )

        breakers, health = redis_call(ask)
        open_until = {name.decode(): json.loads(text) for name, text in breakers.items()}
        return open_until, {name.decode(): text == b"healthy" for name, text in health.items()}

    def follow(self, state: InstanceState, shared_until: float | None) -> float | None:
        """Open or close the breaker as another worker did; return until when this one's is open, None if closed."""
        breaker, now = state.breaker, time.time()
        known = state.name in self.known_open
        may_open = not known and not breaker.open_until and breaker.rule is not NEVER
        if known and breaker.open_until and shared_until is None:
            breaker.close()
            state.recovered_at = state.clock()
        elif may_open and shared_until is not None and shared_until > now:
            breaker.open(min(shared_until - now, breaker.rule.longest_pause))  # the clock may have been set back
        return now + breaker.open_until - state.clock() if breaker.open_until else None

    def write(self, states: list[InstanceState], changes: dict[str, float | None], verdicts: dict[str, bool]) -> None:
        """Tell the others which breakers are open, which this worker closed, what the checks found, and all of it to
        the operators.
        """

        def send(redis: Any) -> None:
            pipeline = redis.pipeline(transaction=False)
            for name, until in changes.items():
                if until is not None:
                    pipeline.hset(keys.open_breakers(gateway_name()), name, json.dumps(until))
                elif name in self.known_open:
                    pipeline.hdel(keys.open_breakers(gateway_name()), name)
            for name, healthy in verdicts.items():
                pipeline.hset(keys.instance_health(gateway_name()), name, "healthy" if healthy else "unhealthy")
            # What nobody says any more is forgotten.
            if any(changes.values()):
                pipeline.expire(keys.open_breakers(gateway_name()), KEPT_SECONDS)
            if verdicts:
                pipeline.expire(keys.instance_health(gateway_name()), KEPT_SECONDS)
            write_report(pipeline, states)
            pipeline.execute()

        redis_call(send)
        self.known_open = {name for name, until in changes.items() if until is not None}


def share() -> None:
    """Share for as long as the process lives (once in a worker, after the fork)."""
    sharing = Sharing(all_instances)
    Loop("sharing", sharing.share_once, every=SECONDS, at_once=True).start()
