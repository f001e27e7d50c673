"""A look says how the next request would be decided, and changes no key in Redis."""

import dataclasses
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.redis.access import Outage, RedisUnavailable, breaker, redis_client
from ratelimit.engine import bandwidth
from ratelimit.engine.limiter import Decision, GateClosed, KeyGate, Used, Verdict, admit, look
from ratelimit.engine.limits import ByteLimit, RequestLimit
from ratelimit.tests.model import DAY
from testing.redis_monitor import watched_redis

SMALL = RequestLimit("small", requests_per_minute=3, burst_size=2, concurrent_requests=9, daily_quota=10)
SLOW = ByteLimit("slow", bytes_per_second=1_000, burst_bytes=4_000)
NOON = 1_700_000_000 - 1_700_000_000 % 60
START = NOON + 10
FAR_MS = 1_000_000_000  # longer than any expiry that the scripts set


def keys_of(subject: str) -> dict[bytes, bytes | None]:
    """Return each key of the subject with its value as Redis would dump it."""
    redis = redis_client()
    return {name: redis.dump(name) for name in redis.scan_iter(f"{subject}*", count=1_000)}


def put_off_expiry(subject: str) -> None:
    """Give all keys of the subject an expiry by which another one is recognised."""
    for name in keys_of(subject):
        redis_client().pexpire(name, FAR_MS)


def expiry_was_changed(subject: str) -> bool:
    return any(redis_client().pttl(name) < FAR_MS / 2 for name in keys_of(subject))


LIMITS = st.builds(
    RequestLimit,
    st.just("model"),
    st.integers(0, 4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 5)),
        # Less than 0: the clock is set back. No sum is the 15 seconds of a lease, which ends between two seconds.
        st.tuples(st.just("wait"), st.sampled_from([-DAY, -302, -60, -2, 0, 2, 14, 48, 50, 52, 60, 298, 300, DAY])),
        st.tuples(st.just("gate"), st.integers(0, 2)),
        st.tuples(st.just("limit"), LIMITS),
    ),
    max_size=20,
)


def decided(limit: RequestLimit, subject: str, gate: KeyGate, now: int) -> Decision | int:
    """Return what `admit` decides, without its lease, or the gate that it found closed."""
    try:
        return dataclasses.replace(admit(limit, subject, gates=[gate], now=now), lease=None)
    except GateClosed as closed:
        return closed.index


def looked(limit: RequestLimit, subject: str, gate: KeyGate, now: int) -> Decision | int:
    """Return what `look` says, after checking that it changed no key and no expiry."""
    before = keys_of(subject)
    put_off_expiry(subject)
    try:
        answer: Decision | int = look(limit, subject, gates=[gate], now=now).decision
    except GateClosed as closed:
        answer = closed.index
    assert keys_of(subject) == before
    assert not expiry_was_changed(subject)
    return answer


@given(limit=LIMITS, steps=STEPS)
def test_a_look_says_what_admit_decides_next_and_changes_no_key(
    limit: RequestLimit, steps: list[tuple[str, int | RequestLimit]]
) -> None:
    subject, now = f"user:{uuid.uuid4()}", START
    gate = KeyGate(f"gate:{subject}", 1)

    for step, value in steps:
        if step == "wait":
            assert isinstance(value, int)
            now += value
        elif step == "gate":
            redis_client().set(gate.key, value, ex=60)
        elif isinstance(value, RequestLimit):
            limit = value
        else:
            for _ in range(value):
                expected = looked(limit, subject, gate, now)
                assert decided(limit, subject, gate, now) == expected


@given(
    sizes=st.lists(st.tuples(st.integers(0, 9_000), st.integers(-5_000, 9_000)), max_size=20),
)
def test_a_look_at_the_bandwidth_says_what_take_decides_next_and_changes_no_key(sizes: list[tuple[int, int]]) -> None:
    subject, now = f"user:{uuid.uuid4()}", START * 1_000

    for size, milliseconds in sizes:
        now += milliseconds
        bandwidth.take(SLOW, subject, size, now_ms=now)
        before = keys_of(subject)
        put_off_expiry(subject)
        expected = bandwidth.look(SLOW, subject, now_ms=now)
        assert keys_of(subject) == before
        assert not expiry_was_changed(subject)
        assert bandwidth.take(SLOW, subject, 0, now_ms=now) == expected


def test_a_look_says_what_is_used_now() -> None:
    for _ in range(4):
        admit(SMALL, "user:1", now=START)

    seen = look(SMALL, "user:1", now=START)

    assert seen.used == Used(window=3, burst=1, today=4, in_progress=4)
    assert (seen.decision.verdict, seen.decision.burst_remaining) == (Verdict.ADMITTED, 0)


@pytest.mark.parametrize(
    "over", [{"concurrent_requests": 2}, {"daily_quota": 2}, {"requests_per_minute": 2, "burst_size": 0}], ids=str
)
def test_a_look_at_an_exhausted_limit_still_says_what_is_used(over: dict[str, int]) -> None:
    for _ in range(2):
        admit(SMALL, "user:1", now=START)

    seen = look(dataclasses.replace(SMALL, **over), "user:1", now=START)

    assert not seen.decision.admitted
    assert seen.used == Used(window=2, burst=0, today=2, in_progress=2)


def test_nothing_is_used_in_the_next_window_and_after_the_burst_renewed() -> None:
    for _ in range(5):
        admit(SMALL, "user:1", now=START)

    assert look(SMALL, "user:1", now=START + 60).used == Used(window=0, burst=2, today=5, in_progress=0)
    assert look(SMALL, "user:1", now=START + 300).used == Used(window=0, burst=0, today=5, in_progress=0)


def test_looks_never_use_up_a_limit(empty_redis: Redis) -> None:
    assert all(look(SMALL, "user:1", now=START).decision.remaining == 2 for _ in range(20))
    assert list(empty_redis.scan_iter("user:1*")) == []


def test_a_look_runs_commands_that_only_read() -> None:
    admit(SMALL, "user:1")
    bandwidth.take(SLOW, "user:1", 10)

    with watched_redis(scripts=True) as commands:
        look(SMALL, "user:1", gates=[KeyGate("locked", 0)])
        bandwidth.look(SLOW, "user:1")

    assert {command.split()[0] for command in commands} == {"EVALSHA", "MGET", "TIME", "ZCOUNT", "HMGET"}


def test_a_look_at_a_closed_gate_names_it(empty_redis: Redis) -> None:
    empty_redis.set("revoked", 1)

    with pytest.raises(GateClosed) as closed:
        look(SMALL, "user:1", gates=[KeyGate("locked", 0), KeyGate("revoked", 0)])

    assert closed.value.index == 1


def test_disabled_limits_look_unused(settings: Settings) -> None:
    admit(SMALL, "user:1", now=START)
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    seen = look(SMALL, "user:1", now=START)

    assert seen.decision.admitted
    assert seen.used == Used(window=0, burst=0, today=0, in_progress=0)


def test_looking_needs_redis() -> None:
    breaker.outage = Outage()

    for ask in (lambda: look(SMALL, "user:1"), lambda: bandwidth.look(SLOW, "user:1")):
        with pytest.raises(RedisUnavailable):
            ask()
