"""What a process knows about each instance: requests in progress, breaker, health, failures and slow start."""

import itertools
import time
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Self

from django.conf import settings

from lucid_gateway.policy.errors import BadUpstreamAnswer, UpstreamTimeout, UpstreamUnreachable
from proxy.choosing.breaker import Breaker, BreakerRule
from proxy.choosing.failures import BROKE_OFF, failure_words, status_words
from proxy.choosing.probes import may_probe
from proxy.clusters import Cluster, Instance
from proxy.connection.resolver import resolver
from proxy.connection.upstream import NoAnswer

SLOW_START_SECONDS = 10.0
MIN_SHARE = 0.1
LOOK_UP_SECONDS = 1.0
# With these the cluster reports that it, or a server behind it, is unavailable. Other errors come from the application.
FAILED_STATUSES = frozenset({502, 503, 504})
turns = itertools.count(1)
NEVER_OPENS = BreakerRule(consecutive_failures=1_000_000_000, failure_share=2.0)


class InstanceState:
    """One instance as this process sees it; `healthy` is None until the health checks have a result.

    `last_error` is in words for operators. `last_error_at` and `down_since` are in epoch seconds, or None.
    """

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
        self.last_error = ""
        self.last_error_at: float | None = None
        self.down_since: float | None = None

    @property
    def name(self) -> str:
        """The name that workers share through Redis."""
        return f"{self.cluster}|{self.instance.url}"

    def share(self) -> float:
        """Return which share of its requests it gets, 0.1 to 1: it grows in the first seconds after a recovery."""
        return min(1.0, max(MIN_SHARE, (self.clock() - self.recovered_at) / SLOW_START_SECONDS))

    def set_health(self, healthy: bool) -> None:
        """Set the result of the health checks; an unhealthy instance that becomes healthy starts slowly."""
        if healthy and self.healthy is False:
            self.recovered_at = self.clock()
        self.healthy = healthy

    def note_error(self, words: str) -> None:
        """Remember why a request or a health check has just failed."""
        self.last_error, self.last_error_at = words, time.time()

    def note_whether_down(self) -> None:
        """Note since when the breaker is open or the health checks fail, or that neither is so."""
        if not self.breaker.open_until and self.healthy is not False:
            self.down_since = None
        elif self.down_since is None:
            self.down_since = time.time()

    def begin(self) -> "Attempt | None":
        """Start an attempt; return None if the breaker refuses it, or if another worker is probing the instance."""
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
    """One request to an instance, from sending it until its answer has been read.

    `failed` and `answered` report the outcome to the breaker; `end` works once, also without an outcome.
    """

    __slots__ = ("ended", "probe", "state")

    def __init__(self, state: InstanceState, probe: bool) -> None:
        self.state, self.probe = state, probe
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record a failure and end the attempt; a successful one goes on until its answer has been read."""
        if error is not None:
            if isinstance(error, UpstreamUnreachable | UpstreamTimeout | NoAnswer):
                self.failed(failure_words(error), no_answer=True)
            elif isinstance(error, BadUpstreamAnswer):
                self.failed(failure_words(error))
            self.end()

    def answered(self, status: int) -> None:
        """Report an answer to the breaker; its status decides whether it counts as a failure."""
        if status in FAILED_STATUSES:
            self.failed(status_words(status))
            return
        probe = self.end_probe()
        self.state.breaker.succeeded(probe=probe)
        if probe:
            self.state.recovered_at = self.state.clock()

    def failed(self, words: str = BROKE_OFF, *, no_answer: bool = False) -> None:
        """Report a failure to the breaker; `words` say why, for operators."""
        self.state.failures += 1
        self.state.note_error(words)
        probe = self.end_probe()
        self.state.breaker.failed(probe=probe, no_answer=no_answer)

    def end(self) -> None:
        """End the attempt. A probe without an outcome, for example because its client left, lets the next one start."""
        if self.ended:
            return
        self.ended = True
        self.state.in_flight -= 1
        self.end_probe()

    def end_probe(self) -> bool:
        """Return whether this was the probe, and stop being it: the body of its answer may still flow for hours."""
        probe, self.probe = self.probe, False
        if probe:
            self.state.breaker.probing = False
        return probe


@cache
def states_of(cluster: Cluster) -> tuple[InstanceState, ...]:
    """Return this process's state of each of the cluster's instances."""
    rule = BreakerRule() if settings.ENV.CLUSTER_BREAKER_ENABLED else NEVER_OPENS
    return tuple(InstanceState(cluster.name, instance, rule) for instance in cluster.instances)
