"""The breaker of one instance: when it opens, when it admits a probe, when it closes."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.choosing.breaker import Breaker, BreakerRule, State

RULE = BreakerRule(
    consecutive_failures=3, window=10, failure_share=0.5, minimum_requests=10, first_pause=5, longest_pause=20
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(RULE, clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(no_answer=True)


def test_consecutive_failures_open_it(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert (breaker.state, breaker.admits()) == (State.CLOSED, True)
    fail(breaker)
    assert (breaker.state, breaker.admits()) == (State.OPEN, False)


def test_a_success_resets_the_consecutive_failures(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state == State.CLOSED


def test_error_answers_open_it_only_as_a_share_of_enough_requests(breaker: Breaker) -> None:
    for _ in range(4):
        breaker.failed()
        breaker.succeeded()
    breaker.failed()
    assert breaker.state == State.CLOSED
    breaker.failed()
    assert breaker.state == State.OPEN


def test_fewer_failures_than_the_share_leave_it_closed(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.failed()
        breaker.succeeded()
        breaker.succeeded()
    assert breaker.state == State.CLOSED


def test_requests_before_the_window_do_not_count(breaker: Breaker, clock: Clock) -> None:
    for _ in range(9):
        breaker.failed()
    clock.now += RULE.window
    breaker.failed()
    assert breaker.state == State.CLOSED


def test_after_the_pause_one_request_at_a_time_is_admitted(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 4.9
    assert not breaker.admits()
    clock.now += 0.1
    assert (breaker.state, breaker.admits()) == (State.HALF_OPEN, True)
    breaker.probing = True
    assert not breaker.admits()


def test_a_successful_probe_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    breaker.succeeded(probe=True)
    fail(breaker, 2)
    assert (breaker.state, breaker.admits()) == (State.CLOSED, True)


def test_failed_probes_lengthen_the_pause_up_to_the_longest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    pauses = []
    for _ in range(4):
        pauses.append(breaker.open_until - clock.now)
        clock.now = breaker.open_until
        breaker.failed(probe=True, no_answer=True)
    assert pauses == [5, 10, 20, 20]


def test_after_a_recovery_the_pause_is_short_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = breaker.open_until
    breaker.failed(probe=True)
    clock.now = breaker.open_until
    breaker.succeeded(probe=True)
    fail(breaker, 3)
    assert breaker.open_until - clock.now == 5


def test_requests_sent_before_it_opened_neither_close_nor_prolong_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    until = breaker.open_until
    clock.now += 1
    breaker.succeeded()
    fail(breaker, 5)
    assert breaker.open_until == until


def test_a_failed_probe_does_not_reopen_a_closed_breaker(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 5
    breaker.succeeded(probe=True)
    breaker.failed(probe=True, no_answer=True)
    assert breaker.state == State.CLOSED


class Lifetime(RuleBasedStateMachine):
    """No sequence of events opens it for longer than the longest pause."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(RULE, self.clock)

    @rule(no_answer=st.booleans())
    def fails(self, no_answer: bool) -> None:
        self.breaker.failed(no_answer=no_answer)

    @rule()
    def succeeds(self) -> None:
        self.breaker.succeeded()

    @precondition(lambda self: self.breaker.state == State.HALF_OPEN)
    @rule(well=st.booleans())
    def probes(self, well: bool) -> None:
        self.breaker.succeeded(probe=True) if well else self.breaker.failed(probe=True)
        assert self.breaker.state == (State.CLOSED if well else State.OPEN)

    @rule(seconds=st.floats(0, 30))
    def waits(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def opens_for_a_bounded_time(self) -> None:
        assert self.breaker.open_until <= self.clock.now + RULE.longest_pause
        assert self.breaker.admits() == (self.breaker.state != State.OPEN)
        assert sum(second.requests for second in self.breaker.seconds) >= 0
        assert len(self.breaker.seconds) <= RULE.window


TestLifetime = Lifetime.TestCase
