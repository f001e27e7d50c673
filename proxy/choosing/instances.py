"""What a process knows of each instance of the clusters: requests under way, breaker, health, slow start."""

import itertools
import time
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Self

from django.conf import settings

from lucid_gateway.policy.errors import BadUpstreamAnswer, UpstreamTimeout, UpstreamUnreachable
from proxy.choosing.breaker import Breaker, BreakerRule
from proxy.choosing.probes import may_probe
from proxy.clusters import Cluster, Instance
from proxy.connection.resolver import resolver
from proxy.connection.upstream import NoAnswer

SLOW_START_SECONDS = 10.0
LEAST_SHARE = 0.1
LOOK_UP_SECONDS = 1.0
# The cluster says itself that it, or what is behind it, is not there; other errors are the application's own choice.
FAILED_STATUSES = frozenset({502, 503, 504})
turns = itertools.count(1)
NEVER = BreakerRule(failures_in_a_row=1_000_000_000, share=2.0)


class InstanceState:
    """One instance as this process sees it. `healthy` is what the health checks say, None before they do."""

    def __init__(
        self, cluster: str, instance: Instance, rule: BreakerRule, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cluster, self.instance, self.clock = cluster, instance, clock
        self.breaker = Breaker(rule, clock)
        self.healthy: bool | None = None
        self.recovered_at = float("-inf")
        self.in_flight = 0
        self.last_turn = 0
        self.requests = 0
        self.failures = 0

    @property
    def name(self) -> str:
        """The name under which workers speak of it."""
        return f"{self.cluster}|{self.instance.url}"

    def share(self) -> float:
        """Return the share of its requests that it gets, 0.1 to 1: after a recovery it starts slowly."""
        return min(1.0, max(LEAST_SHARE, (self.clock() - self.recovered_at) / SLOW_START_SECONDS))

    def note_health(self, healthy: bool) -> None:
        """Take over what the health checks say."""
        if healthy and self.healthy is False:
            self.recovered_at = self.clock()
        self.healthy = healthy

    def begin(self) -> "Attempt | None":
        """Return the attempt to send one request; None if the breaker admits none, or another is the probe."""
        if not self.breaker.admits():
            return None
        probe = self.breaker.open_until > 0
        if probe:
            self.breaker.probing = True
            if not may_probe(self.name):
                self.breaker.probing = False
                return None
            resolver.renew(self.instance, within=LOOK_UP_SECONDS)
        self.in_flight += 1
        self.last_turn = next(turns)
        self.requests += 1
        return Attempt(self, probe)


class Attempt:
    """One request on its way to an instance, until its answer has been read; ends once, with or without a verdict."""

    __slots__ = ("ended", "probe", "state")

    def __init__(self, state: InstanceState, probe: bool) -> None:
        self.state, self.probe = state, probe
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End an attempt that failed; one that did not goes on until its answer is read."""
        if error is not None:
            if isinstance(error, UpstreamUnreachable | UpstreamTimeout | NoAnswer):
                self.failed(in_a_row=True)
            elif isinstance(error, BadUpstreamAnswer):
                self.failed()
            self.end()

    def answered(self, status: int) -> None:
        """Judge the instance by the status of its answer."""
        if status in FAILED_STATUSES:
            self.failed()
            return
        probe = self.end_probe()
        self.state.breaker.succeeded(probe=probe)
        if probe:
            self.state.recovered_at = self.state.clock()

    def failed(self, *, in_a_row: bool = False) -> None:
        """Note that the instance failed."""
        self.state.failures += 1
        probe = self.end_probe()
        self.state.breaker.failed(probe=probe, in_a_row=in_a_row)

    def end(self) -> None:
        """Make room for another; a probe that ends without a verdict, as when its client left, leaves the question."""
        if self.ended:
            return
        self.ended = True
        self.state.in_flight -= 1
        self.end_probe()

    def end_probe(self) -> bool:
        """Return whether it was the probe; it is none from now on: its body may flow for hours, and be cut at last."""
        probe, self.probe = self.probe, False
        if probe:
            self.state.breaker.probing = False
        return probe


@cache
def states_of(cluster: Cluster) -> tuple[InstanceState, ...]:
    """Return this process's states of the cluster's instances."""
    rule = BreakerRule() if settings.ENV.CLUSTER_BREAKER_ENABLED else NEVER
    return tuple(InstanceState(cluster.name, instance, rule) for instance in cluster.instances)
