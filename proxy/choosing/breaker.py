"""The circuit breaker of one instance: stops asking who fails, and lets one request at a time find out whether it still
does (DESIGN, section 8).

Failures to connect, time-outs and connections that end without an answer open it when they come in a row; so does a
share of failures among the requests of the last seconds. An answer is no failure unless it is 502, 503 or 504.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class BreakerRule:
    """When a breaker opens and for how long: seconds, counts, and a share of 0 to 1."""

    failures_in_a_row: int = 5
    window: int = 10
    share: float = 0.5
    least_requests: int = 20
    first_pause: float = 5.0
    longest_pause: float = 60.0


class State(StrEnum):
    """What a breaker does with the next request: let it through, refuse it, or let it be the probe."""

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
    """One process's breaker for one instance; its times are the clock's, in seconds."""

    def __init__(self, rule: BreakerRule, clock: Callable[[], float] = time.monotonic) -> None:
        self.rule, self.clock = rule, clock
        self.seconds: deque[Second] = deque()
        self.failures_in_a_row = 0
        self.open_until = 0.0
        self.pause = rule.first_pause
        self.probing = False

    @property
    def state(self) -> State:
        """Whether it is closed, open, or due for a probe."""
        if not self.open_until:
            return State.CLOSED
        return State.OPEN if self.clock() < self.open_until else State.HALF_OPEN

    def admits(self) -> bool:
        """Return whether a request may be sent: always while closed, one at a time while half-open."""
        return not self.open_until or (not self.probing and self.clock() >= self.open_until)

    def succeeded(self, *, probe: bool = False) -> None:
        """Note an answer; that of a probe closes the breaker."""
        self.failures_in_a_row = 0
        self.count(failures=0)
        if probe:
            self.close()

    def failed(self, *, probe: bool = False, in_a_row: bool = False) -> None:
        """Note a failure; `in_a_row` says that nothing at all came back."""
        self.count(failures=1)
        self.failures_in_a_row += in_a_row
        if probe and self.open_until:  # else another worker's probe has closed it meanwhile
            self.open(self.pause)
            self.pause = min(2 * self.pause, self.rule.longest_pause)
        elif not self.open_until and self.is_too_much():
            self.open(self.rule.first_pause)
            self.pause = min(2 * self.rule.first_pause, self.rule.longest_pause)

    def is_too_much(self) -> bool:
        """Return whether the failures of the last seconds are enough to open."""
        if self.failures_in_a_row >= self.rule.failures_in_a_row:
            return True
        requests = sum(second.requests for second in self.seconds)
        failures = sum(second.failures for second in self.seconds)
        return requests >= self.rule.least_requests and failures >= self.rule.share * requests

    def count(self, *, failures: int) -> None:
        """Add a request to the window."""
        now = int(self.clock())
        if not self.seconds or self.seconds[-1].at != now:
            while self.seconds and self.seconds[0].at <= now - self.rule.window:
                self.seconds.popleft()
            self.seconds.append(Second(now))
        self.seconds[-1].requests += 1
        self.seconds[-1].failures += failures

    def open(self, seconds: float) -> None:
        """Refuse requests for so long."""
        self.open_until = self.clock() + seconds

    def close(self) -> None:
        """Let all requests through, and forget what was."""
        self.open_until, self.failures_in_a_row, self.pause = 0.0, 0, self.rule.first_pause
        self.seconds.clear()
