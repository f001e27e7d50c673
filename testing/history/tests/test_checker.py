"""The checker on histories made by hand: each rule holds in one and is broken in another."""

import itertools
import math
from typing import Any

import pytest

from testing.history import idempotency, limits, tokens, writes
from testing.history.checker import check
from testing.history.operations import Fault, Kind, Operation, Outcome, Recorded, Run
from testing.history.verdicts import Verdict

OK, REFUSED, UNKNOWN = Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN
RUN = Run(seed=1, redis="single", epoch=0.0, limit=5, burst=2, workers=2)
numbers = itertools.count(1)


def op(kind: Kind, subject: str, at: float, until: float, outcome: Outcome = OK, **facts: Any) -> Operation:
    """Return an operation of the client `facts["client"]`, or of `alice`."""
    client = facts.pop("client", "alice")
    facts = {"user": "u", "family": "f"} | facts
    return Operation(next(numbers), client, kind, subject, "one", at, until, outcome, facts)


def broken(operations: list[Operation], *faults: Fault) -> list[Verdict]:
    """Return the violations in the history."""
    return [verdict for verdict in check(Recorded(RUN, operations, list(faults))) if not verdict.holds]


def rules_broken(operations: list[Operation], *faults: Fault) -> list[str]:
    return [verdict.rule for verdict in broken(operations, *faults)]


def write(value: str, at: float, until: float, outcome: Outcome = OK) -> Operation:
    return op(Kind.WRITE, "session", at, until, outcome, value=value)


def read(value: str | None, at: float, until: float) -> Operation:
    return op(Kind.READ, "session", at, until, value=value)


def test_an_empty_history_breaks_no_rule() -> None:
    verdicts = check(Recorded(RUN, [], []))

    assert [verdict.holds for verdict in verdicts] == [True] * 6


def test_an_acknowledged_write_that_is_read_back_is_kept() -> None:
    assert rules_broken([write("a", 0, 1), read("a", 2, 3), write("b", 3, 4), read("b", 5, 6)]) == []


@pytest.mark.parametrize("value", [None, "a"])
def test_a_read_without_the_last_acknowledged_write_proves_a_loss(value: str | None) -> None:
    operations = [write("a", 0, 1), write("b", 2, 3), read(value, 4, 5)]

    (verdict,) = broken(operations)

    assert verdict.rule == writes.RULE
    assert verdict.evidence == tuple(operations)


@pytest.mark.parametrize("value", ["a", "b"])
def test_a_write_with_an_unknown_outcome_may_or_may_not_be_read(value: str) -> None:
    assert rules_broken([write("a", 0, 1), write("b", 2, math.inf, UNKNOWN), read(value, 4, 5)]) == []


def test_a_write_with_an_unknown_outcome_may_come_after_a_later_one() -> None:
    assert rules_broken([write("a", 0, 1, UNKNOWN), write("b", 2, 3), read("a", 4, 5)]) == []


@pytest.mark.parametrize("value", [None, "a"])
def test_a_read_that_overlaps_a_write_may_see_either_value(value: str | None) -> None:
    assert rules_broken([write("a", 0, 2), read(value, 1, 3)]) == []


def test_a_refused_write_must_not_be_read() -> None:
    assert rules_broken([write("a", 0, 1), write("b", 2, 3, REFUSED), read("b", 4, 5)]) == [writes.RULE]


def test_a_login_that_ends_by_itself_is_a_lost_write() -> None:
    refused = op(Kind.USE, "f", 1, 2, REFUSED, code="2003")

    assert rules_broken([refused]) == [writes.RULE]
    assert rules_broken([op(Kind.LOGOUT, "f", 0, 3, UNKNOWN), refused]) == []
    assert rules_broken([op(Kind.LOCK, "u", 0, 3), refused]) == []


def test_a_second_use_of_a_refresh_token_explains_the_end_of_its_login() -> None:
    first, second = (op(Kind.REFRESH, "r", 0, 1, outcome, client=outcome) for outcome in (OK, REFUSED))

    assert rules_broken([first, op(Kind.USE, "f", 2, 3, REFUSED, code="2003")]) == [writes.RULE]
    assert rules_broken([first, second, op(Kind.USE, "f", 2, 3, REFUSED, code="2003")]) == []


@pytest.mark.parametrize("end", [op(Kind.LOGOUT, "f", 0, 1), op(Kind.LOCK, "u", 0, 1)])
def test_a_token_accepted_too_long_after_an_acknowledged_end_is_refused_by_the_checker(end: Operation) -> None:
    use = op(Kind.USE, "f", 3.5, 3.6)

    (verdict,) = broken([end, use])

    assert verdict.rule == tokens.REVOCATION
    assert verdict.evidence == (end, use)
    assert "2.500 s" in verdict.text


def test_a_token_may_be_accepted_for_two_seconds_and_if_it_was_sent_before() -> None:
    logout = op(Kind.LOGOUT, "f", 0, 1)

    assert rules_broken([logout, op(Kind.USE, "f", 2.9, 3.2)]) == []
    assert rules_broken([logout, op(Kind.USE, "f", 0.5, 9)]) == []


def test_a_revocation_that_was_not_acknowledged_promises_nothing() -> None:
    assert rules_broken([op(Kind.LOGOUT, "f", 0, 1, UNKNOWN), op(Kind.USE, "f", 9, 10)]) == []


def test_a_reused_refresh_token_ends_its_login_for_the_winner_too() -> None:
    race = [op(Kind.REFRESH, "r", 0, 1), op(Kind.REFRESH, "r", 0, 1, REFUSED, client="bob", code="2010")]

    assert rules_broken([*race, op(Kind.USE, "f", 2, 3)]) == []
    assert rules_broken([*race, op(Kind.USE, "f", 4, 5)]) == [tokens.REVOCATION]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([OK, REFUSED], []),
        ([OK, UNKNOWN], []),
        ([UNKNOWN, REFUSED], []),
        ([OK, OK], [tokens.ROTATION]),
        ([REFUSED, REFUSED], [tokens.ROTATION]),
    ],
)
def test_a_rotation_has_exactly_one_winner(outcomes: list[Outcome], expected: list[str]) -> None:
    race = [op(Kind.REFRESH, "r", 0, 1, one, client=str(number)) for number, one in enumerate(outcomes)]

    assert rules_broken(race) == expected


def test_a_rotation_needs_no_winner_if_its_login_may_have_ended() -> None:
    refused = [op(Kind.REFRESH, "r", 0, 1, REFUSED, client=name) for name in ("alice", "bob")]

    assert rules_broken([op(Kind.LOGOUT, "f", 0.5, 0.7, UNKNOWN), *refused]) == []


def test_the_next_rotation_needs_no_winner_after_a_second_use() -> None:
    race = [op(Kind.REFRESH, "r", 0, 1), op(Kind.REFRESH, "r", 0, 1, UNKNOWN, client="bob")]
    later = op(Kind.REFRESH, "s", 2, 3, REFUSED)

    assert rules_broken([*race, later]) == []
    assert rules_broken([race[0], later]) == [tokens.ROTATION]


@pytest.mark.parametrize(("again", "expected"), [(0.9, []), (1.5, [tokens.ROTATION]), (31, [])])
def test_a_client_that_lost_the_answer_is_not_signed_out_when_it_asks_again(again: float, expected: list[str]) -> None:
    lost = op(Kind.REFRESH, "r", 0, math.inf, UNKNOWN)

    assert rules_broken([lost, op(Kind.REFRESH, "r", again, again + 1, REFUSED)]) == expected


def post(at: float, outcome: Outcome = OK, *, forwarded: bool = True) -> Operation:
    return op(Kind.POST, "key", at, at + 1, outcome, forwarded=forwarded)


def execution(at: float) -> Operation:
    return op(Kind.EXECUTION, "key", at, at, client="cluster")


def test_a_key_that_is_executed_once_has_one_winner() -> None:
    assert rules_broken([post(0), post(0, REFUSED), execution(0.5)]) == []
    assert rules_broken([post(0, UNKNOWN), execution(0.5)]) == []
    assert rules_broken([post(0, UNKNOWN)]) == []


def test_a_key_that_is_executed_twice_is_refused_by_the_checker() -> None:
    operations = [post(0), post(2), execution(0.5), execution(2.5)]

    (verdict,) = broken(operations)

    assert (verdict.rule, verdict.evidence) == (idempotency.RULE, tuple(operations))


def test_an_acknowledged_post_that_was_never_executed_is_refused_by_the_checker() -> None:
    assert rules_broken([post(0)]) == [idempotency.RULE]


@pytest.mark.parametrize(
    ("lost_at", "forwarded", "expected"),
    [(1.5, True, []), (1.5, False, [idempotency.RULE]), (3.0, True, [idempotency.RULE])],
)
def test_only_a_forwarded_key_may_be_executed_again_and_only_after_a_loss_of_redis(
    lost_at: float, forwarded: bool, expected: list[str]
) -> None:
    operations = [post(0, forwarded=forwarded), post(2, forwarded=forwarded), execution(0.5), execution(2.5)]

    assert rules_broken(operations, Fault("flush", "redis", lost_at, lost_at, data_lost=True)) == expected


def test_a_loss_before_the_first_request_excuses_nothing() -> None:
    operations = [post(1), post(3), execution(1.5), execution(3.5)]

    assert rules_broken(operations, Fault("flush", "redis", 0.0, 0.5, data_lost=True)) == [idempotency.RULE]


def limited(count: int, *, at: float = 1.0, outcome: Outcome = OK) -> list[Operation]:
    return [op(Kind.LIMITED, "u", at, at + 0.1, outcome) for _ in range(count)]


def test_the_limit_and_the_burst_may_be_admitted_in_a_minute() -> None:
    assert rules_broken([*limited(7), *limited(9, outcome=REFUSED), *limited(5, at=61)]) == []


def test_one_request_more_is_refused_by_the_checker() -> None:
    (verdict,) = broken(limited(8))

    assert verdict.rule == limits.WITH_REDIS
    assert len(verdict.evidence) == 8


def test_the_burst_is_not_renewed_by_the_next_minute() -> None:
    assert rules_broken([*limited(7), *limited(6, at=61)]) == [limits.WITH_REDIS]
    assert rules_broken([*limited(7), *limited(7, at=361)]) == []


def test_requests_that_the_turn_of_the_minute_meets_or_without_an_answer_are_not_counted() -> None:
    turning = op(Kind.LIMITED, "u", 59.95, 60.05)

    assert rules_broken([*limited(7), turning, *limited(2, outcome=UNKNOWN)]) == []


def test_requests_during_an_outage_or_a_loss_do_not_count_as_those_of_redis() -> None:
    operations = [*limited(7, at=1), *limited(7, at=11)]

    assert rules_broken(operations) == [limits.WITH_REDIS]
    assert rules_broken(operations, Fault("worker killed", "one", 10, 12)) == [limits.WITH_REDIS]
    assert rules_broken(operations, Fault("pause", "redis", 10, 12, redis=True)) == []


def test_after_a_loss_redis_may_admit_the_limit_and_the_burst_again() -> None:
    loss = Fault("flush", "redis", 5, 5, data_lost=True)

    assert rules_broken([*limited(7, at=1), *limited(7, at=11)], loss) == []
    assert rules_broken([*limited(7, at=1), *limited(8, at=11)], loss) == [limits.WITH_REDIS]


def test_before_and_after_an_outage_the_same_counter_counts() -> None:
    outage = Fault("pause", "redis", 5, 6, redis=True)

    assert rules_broken([*limited(4, at=1), *limited(4, at=11)], outage) == [limits.WITH_REDIS]


@pytest.mark.parametrize(
    ("count", "new_workers", "expected"), [(21, 0, []), (22, 0, [limits.WITHOUT_REDIS]), (22, 1, [])]
)
def test_without_redis_all_counters_together_admit_a_multiple_of_the_limit_at_most(
    count: int, new_workers: int, expected: list[str]
) -> None:
    outage = Fault("pause", "redis", 0, 12, redis=True, new_workers=new_workers)

    assert rules_broken(limited(count), outage) == expected
