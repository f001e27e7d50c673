"""The circuit breaker of one instance: it stops requests to a failing instance, then admits one probe at a time to find
out whether the instance has recovered.

It opens after several requests in a row without an answer (connection failure, timeout or early close), or when too
large a share of recent requests failed. An answer counts as a failure only if its status is 502, 503 or 504.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When a breaker opens, and for how long; times are in seconds.

    It opens after `consecutive_failures`, or when `failure_share` (0 to 1) of at least `minimum_requests` in the last
    `window` seconds failed.
    """

    consecutive_failures: int = 5
    window: int = 10
    failure_share: float = 0.5
    minimum_requests: int = 20
    first_pause: float = 5.0
    longest_pause: float = 60.0


class State(StrEnum):
    """What happens to the next request: closed admits it, open refuses it, half-open makes it the probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Second:
    """The requests that ended in one second."""

    at: int
    requests: int = 0
    failures: int = 0


class Breaker:
    """One process's breaker for one instance; its times are seconds on `clock`."""

    def __init__(self, rule: BreakerRule, clock: Callable[[], float] = time.monotonic) -> None:
        self.rule, self.clock = rule, clock
        self.seconds: deque[Second] = deque()
        self.consecutive_failures = 0
        self.open_until = 0.0
        self.pause = rule.first_pause
        self.probing = False

    @property
    def state(self) -> State:
        if not self.open_until:
            return State.CLOSED
        return State.OPEN if self.clock() < self.open_until else State.HALF_OPEN

    def admits(self) -> bool:
        """Return whether a request may be sent: any while closed, one at a time while half-open."""
        return not self.open_until or (not self.probing and self.clock() >= self.open_until)

    def succeeded(self, *, probe: bool = False) -> None:
        """Count an answer; one to a probe closes the breaker."""
        self.consecutive_failures = 0
        self.count(failures=0)
        if probe:
            self.close()

    def failed(self, *, probe: bool = False, no_answer: bool = False) -> None:
        """Count a failure; `no_answer` marks one without any answer from the instance."""
        self.count(failures=1)
        self.consecutive_failures += no_answer
        if probe and self.open_until:  # another worker's probe may have closed it in the meantime
            self.open(self.pause)
            self.pause = min(2 * self.pause, self.rule.longest_pause)
        elif not self.open_until and self.exceeds_limits():
            self.open(self.rule.first_pause)
            self.pause = min(2 * self.rule.first_pause, self.rule.longest_pause)

    def note(self, answers: int, failures: int, without_answer: int) -> None:
        """Count requests that others have sent within the last second, in an unknown order: `failures` includes those
        `without_answer`, which follow each other only if there was no answer at all.
        """
        self.count(requests=answers + failures, failures=failures)
        self.consecutive_failures = 0 if answers else self.consecutive_failures + without_answer
        if not self.open_until and failures and self.exceeds_limits():
            self.open(self.rule.first_pause)
            self.pause = min(2 * self.rule.first_pause, self.rule.longest_pause)

    def exceeds_limits(self) -> bool:
        """Return whether the recent failures are enough to open."""
        if self.consecutive_failures >= self.rule.consecutive_failures:
            return True
        requests = sum(second.requests for second in self.seconds)
        failures = sum(second.failures for second in self.seconds)
        return requests >= self.rule.minimum_requests and failures >= self.rule.failure_share * requests

    def count(self, *, failures: int, requests: int = 1) -> None:
        """Add requests to the window and drop seconds that have left it."""
        now = int(self.clock())
        if not self.seconds or self.seconds[-1].at != now:
            while self.seconds and self.seconds[0].at <= now - self.rule.window:
                self.seconds.popleft()
            self.seconds.append(Second(now))
        self.seconds[-1].requests += requests
        self.seconds[-1].failures += failures

    def open(self, seconds: float) -> None:
        self.open_until = self.clock() + seconds

    def close(self) -> None:
        """Admit all requests, and forget earlier failures and the lengthened pause."""
        self.open_until, self.consecutive_failures, self.pause = 0.0, 0, self.rule.first_pause
        self.seconds.clear()
