"""Charges of failed attempts to one subject at a time, as a Redis Cluster needs it: none is lost or counted twice."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from accounts import lockouts
from accounts.lockouts import (
    FAILURES_EXPIRE_SECONDS,
    RULES,
    GuessAttempt,
    LockoutSubject,
    account,
    active_lockouts,
    active_lockouts_of,
    charge_script,
    lift,
    refund_script,
    signed_in_user,
)
from accounts.tests.conftest import failures_of
from lucid_gateway.kernel.redis.access import RedisCallFailed, RedisUnavailable
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import TooManyAttempts
from testing.parallel import in_parallel

OWNER, ADDRESS = account("owner@example.org"), LockoutSubject("address", "192.0.2.1")
FREE = RULES["account"].free_failures


def fail(subject: LockoutSubject, times: int) -> None:
    for _ in range(times):
        GuessAttempt(subject)


def lock_out(subject: LockoutSubject) -> None:
    fail(subject, RULES[subject.kind].free_failures)


def end_lockout(redis: Redis, subject: LockoutSubject) -> None:
    """Let the time of the lockout pass."""
    redis.hset(subject.key, "u", redis.time()[0])


def is_locked_out(subject: LockoutSubject) -> bool:
    return active_lockouts_of([subject]) != []


def after(script: str, then: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each call of the script be followed by `then`, which gets the key, before the caller has the answer."""
    run = getattr(lockouts, script)

    def run_and_go_on(keys: list[str], arguments: list[Any]) -> Any:
        answer = run(keys, arguments)
        then(keys[0])
        return answer

    monkeypatch.setattr(lockouts, script, run_and_go_on)


def lose_answers(script: str, subject: LockoutSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls of the script for the subject take effect but fail."""

    def lose(key: str) -> None:
        if key == subject.key:
            raise RedisCallFailed("lost")

    after(script, lose, monkeypatch)


def test_parallel_attempts_of_one_address_at_several_accounts_are_charged_exactly() -> None:
    accounts = [account(f"user-{number}@example.org") for number in range(3)]
    fail(ADDRESS, 12)

    def attempt(number: int) -> LockoutSubject | None:
        try:
            GuessAttempt(accounts[number % 3], ADDRESS)
        except TooManyAttempts:
            return None
        return accounts[number % 3]

    let_through = in_parallel(48, attempt)

    assert len(let_through) - let_through.count(None) == 8
    assert failures_of(ADDRESS) == 20
    assert [failures_of(subject) for subject in accounts] == [let_through.count(subject) for subject in accounts]


def test_a_second_subject_that_is_locked_out_meanwhile_leaves_nothing_charged_on_the_first(
    empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(OWNER, FREE - 1)

    def lock_out_the_address(key: str) -> None:
        if key == OWNER.key:
            assert is_locked_out(OWNER)
            empty_redis.hset(ADDRESS.key, mapping={"n": 20, "u": empty_redis.time()[0] + 60})

    after("charge_script", lock_out_the_address, monkeypatch)
    with pytest.raises(TooManyAttempts) as refused:
        GuessAttempt(OWNER, ADDRESS)

    assert 59 <= int(refused.value.headers["Retry-After"]) <= 60
    assert (failures_of(OWNER), failures_of(ADDRESS)) == (FREE - 1, 20)
    assert not is_locked_out(OWNER)
    assert active_lockouts() == []


@pytest.mark.parametrize("failures", [0, FREE - 1])
def test_a_charge_that_is_refunded_twice_is_subtracted_once(failures: int) -> None:
    attempt = GuessAttempt(OWNER)
    fail(OWNER, failures)
    attempt.refund()
    attempt.refund()

    assert failures_of(OWNER) == failures


@pytest.mark.parametrize("forget", [lift, lambda subject: GuessAttempt(subject).forgive()])
def test_a_charge_that_was_forgotten_is_not_subtracted_from_later_ones(
    forget: Callable[[LockoutSubject], None],
) -> None:
    attempt = GuessAttempt(OWNER)
    forget(OWNER)
    fail(OWNER, 2)
    attempt.refund()

    assert failures_of(OWNER) == 2


def test_a_refund_does_not_end_the_lockout_that_another_attempt_began() -> None:
    first = GuessAttempt(OWNER)
    fail(OWNER, FREE - 2)
    last = GuessAttempt(OWNER)
    first.refund()

    assert failures_of(OWNER) == FREE - 1
    assert [lockout.subject for lockout in active_lockouts()] == [OWNER]
    last.refund()
    assert not is_locked_out(OWNER)
    assert active_lockouts() == []


def begin_lockout_as_before(redis: Redis) -> None:
    """Charge the owner as the version before does, which knows no ids."""
    redis.hincrby(OWNER.key, "n", 1)
    redis.hset(OWNER.key, "u", redis.time()[0] + 120)


@pytest.mark.parametrize("begin", [begin_lockout_as_before, lambda _: GuessAttempt(OWNER)])
def test_a_refund_after_its_lockout_has_passed_does_not_end_the_next_one(
    begin: Callable[[Redis], None], empty_redis: Redis
) -> None:
    fail(OWNER, FREE - 1)
    attempt = GuessAttempt(OWNER)
    end_lockout(empty_redis, OWNER)
    begin(empty_redis)
    attempt.refund()

    assert is_locked_out(OWNER)


def test_a_second_refund_leaves_the_next_lockout_in_the_list() -> None:
    fail(OWNER, FREE - 1)
    attempt = GuessAttempt(OWNER)
    attempt.refund()
    fail(OWNER, 1)
    attempt.refund()

    assert [lockout.subject for lockout in active_lockouts()] == [OWNER]


def test_a_lockout_that_begins_while_another_one_is_refunded_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    fail(OWNER, FREE - 1)
    attempt = GuessAttempt(OWNER)
    with monkeypatch.context() as patch:
        after("refund_script", lambda _: fail(OWNER, 1), patch)
        attempt.refund()

    assert is_locked_out(OWNER)
    assert [lockout.subject for lockout in active_lockouts()] == [OWNER]


@pytest.mark.parametrize("lost", [OWNER, ADDRESS])
def test_a_charge_that_was_applied_although_its_call_failed_is_refunded(
    lost: LockoutSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(OWNER, FREE - 1)
    fail(ADDRESS, RULES["address"].free_failures - 1)
    lose_answers("charge_script", lost, monkeypatch)
    with pytest.raises(RedisCallFailed):
        GuessAttempt(OWNER, ADDRESS)

    assert (failures_of(OWNER), failures_of(ADDRESS)) == (FREE - 1, RULES["address"].free_failures - 1)
    assert active_lockouts_of([OWNER, ADDRESS]) == []


@pytest.mark.parametrize("settle", [GuessAttempt.refund, GuessAttempt.forgive])
def test_a_failed_refund_of_one_subject_does_not_keep_the_others_charged(
    settle: Callable[[GuessAttempt], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = GuessAttempt(OWNER, ADDRESS, signed_in_user("1"))
    lose_answers("refund_script", ADDRESS, monkeypatch)
    with pytest.raises(RedisCallFailed):
        settle(attempt)

    assert failures_of(OWNER) == failures_of(signed_in_user("1")) == 0


@pytest.mark.parametrize("failures", [0, FREE - 1])
def test_a_charge_that_is_sent_twice_counts_once(failures: int) -> None:
    fail(OWNER, failures)
    arguments = ["an id", FAILURES_EXPIRE_SECONDS, FREE, 60, 3600]
    answer = charge_script([OWNER.key], arguments)

    assert charge_script([OWNER.key], arguments) == answer
    assert failures_of(OWNER) == failures + 1
    assert is_locked_out(OWNER) == (failures == FREE - 1)
    refund_script([OWNER.key], ["an id"])
    assert failures_of(OWNER) == failures


def test_a_lockout_holds_while_the_index_is_unavailable(empty_redis: Redis) -> None:
    empty_redis.set(keys.LOCKOUTS, "not a sorted set", ex=60)
    lock_out(OWNER)

    with pytest.raises(TooManyAttempts):
        GuessAttempt(OWNER)
    assert [lockout.failures for lockout in active_lockouts_of([OWNER])] == [FREE]
    with pytest.raises(RedisUnavailable):
        active_lockouts()
    lift(OWNER)
    assert not is_locked_out(OWNER)
    fail(OWNER, FREE - 1)
    GuessAttempt(OWNER).refund()
    assert failures_of(OWNER) == FREE - 1
    assert not is_locked_out(OWNER)


@pytest.mark.parametrize("end", [lambda attempt: lift(OWNER), GuessAttempt.refund, GuessAttempt.forgive])
def test_the_index_has_no_entry_of_a_lockout_that_was_lifted_or_refunded(
    end: Callable[[GuessAttempt], None], empty_redis: Redis
) -> None:
    fail(OWNER, FREE - 1)
    attempt = GuessAttempt(OWNER)
    assert empty_redis.zcard(keys.LOCKOUTS) == 1
    end(attempt)

    assert empty_redis.zcard(keys.LOCKOUTS) == 0


def test_an_entry_of_the_index_without_a_lockout_is_not_listed(empty_redis: Redis) -> None:
    for subject in (OWNER, ADDRESS):
        lock_out(subject)
    empty_redis.delete(OWNER.key)

    assert [lockout.subject for lockout in active_lockouts()] == [ADDRESS]


def test_failures_that_the_version_before_counted_still_count(empty_redis: Redis) -> None:
    now = empty_redis.time()[0]
    empty_redis.hset(ADDRESS.key, mapping={"n": 20, "u": now + 50})
    empty_redis.hset(OWNER.key, mapping={"n": FREE, "u": now - 1})

    with pytest.raises(TooManyAttempts) as refused:
        GuessAttempt(OWNER, ADDRESS)
    assert 49 <= int(refused.value.headers["Retry-After"]) <= 50
    GuessAttempt(OWNER).refund()
    assert failures_of(OWNER) == FREE
    GuessAttempt(OWNER)
    (lockout,) = active_lockouts_of([OWNER])
    assert lockout.failures == FREE + 1
    assert 119 <= lockout.seconds_left <= 120


def test_the_second_charge_after_a_passed_lockout_does_not_forget_the_first(empty_redis: Redis) -> None:
    empty_redis.hset(OWNER.key, mapping={"n": 5, "u": empty_redis.time()[0] - 1})
    attempt = GuessAttempt(OWNER)
    GuessAttempt(OWNER)
    attempt.refund()

    assert failures_of(OWNER) == 6


def test_guesses_that_never_stop_do_not_fill_the_memory_with_ids(empty_redis: Redis) -> None:
    lock_out(OWNER)
    for _ in range(20):
        end_lockout(empty_redis, OWNER)
        GuessAttempt(OWNER)

    assert failures_of(OWNER) == FREE + 20
    assert empty_redis.hlen(OWNER.key) == 3
