"""The limiter on a real Redis: a minute's limit, then the burst, decided in one step for everyone."""

import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.redis_access import RedisUnavailable, breaker, redis_client
from ratelimit.limiter import Decision, Gate, GateClosed, admit, admit_or_fall_back, bucket_key, fallback, script
from ratelimit.tests.model import PlainLimit
from ratelimit.tiers import Tier

SMALL = Tier("small", requests_per_minute=3, burst_size=2)
NOON = 1_700_000_000 - 1_700_000_000 % 60
START = NOON + 10


def admitted(tier: Tier, times: int, now: int, subject: str = "user:1") -> int:
    return sum(admit(tier, subject, now=now).admitted for _ in range(times))


def test_a_first_minute_admits_the_limit_and_the_burst() -> None:
    decisions = [admit(SMALL, "user:1", now=START) for _ in range(7)]

    assert [decision.admitted for decision in decisions] == [True] * 5 + [False] * 2
    assert [decision.remaining for decision in decisions] == [2, 1, 0, 0, 0, 0, 0]
    assert [decision.burst_remaining for decision in decisions] == [2, 2, 2, 1, 0, 0, 0]
    assert {(decision.resets_in, decision.resets_at) for decision in decisions} == {(50, NOON + 60)}


def test_the_next_minute_gives_the_limit_again_but_no_second_burst() -> None:
    admitted(SMALL, 10, START)

    assert admitted(SMALL, 10, NOON + 59) == 0
    assert admitted(SMALL, 10, NOON + 60) == 3


def test_the_burst_renews_when_it_was_not_used_for_300_seconds() -> None:
    admitted(SMALL, 10, START)

    assert admitted(SMALL, 10, START + 299) == 3
    assert admitted(SMALL, 10, START + 300) == 2


def test_using_the_rest_of_the_burst_puts_off_its_renewal() -> None:
    admitted(SMALL, 4, START)
    admitted(SMALL, 4, START + 200)

    assert admitted(SMALL, 10, START + 310) == 3
    assert admitted(SMALL, 10, START + 500) == 5


def test_a_refusal_does_not_put_off_the_renewal() -> None:
    admitted(SMALL, 10, START)
    admitted(SMALL, 10, START + 250)

    assert admitted(SMALL, 10, START + 300) == 5  # a new minute and the whole burst


def test_a_clock_that_is_set_back_opens_no_second_window() -> None:
    admitted(SMALL, 10, NOON + 60)

    decision = admit(SMALL, "user:1", now=NOON + 59)

    assert not decision.admitted
    assert decision.resets_at == NOON + 120


def test_each_subject_and_each_tier_has_its_own_bucket() -> None:
    admitted(SMALL, 10, START)

    assert admitted(SMALL, 10, START, subject="user:2") == 5
    assert admitted(Tier("other", 1, 0), 10, START) == 1


def test_every_key_has_an_expiry(empty_redis: Redis) -> None:
    for step in range(0, 400, 7):
        admit(SMALL, "user:1", now=START + step)
        admit(Tier("no-burst", 1, 0), "user:1", now=START + step)
        ages = {key: empty_redis.ttl(key) for key in empty_redis.scan_iter()}

        assert len(ages) == 2
        assert all(0 < age <= 300 for age in ages.values()), ages


def test_a_bucket_without_burst_lives_until_its_window_ends(empty_redis: Redis) -> None:
    admit(SMALL, "user:1", now=START)

    assert empty_redis.ttl(bucket_key(SMALL, "user:1")) == 51


def test_a_used_burst_is_remembered_until_it_renews(empty_redis: Redis) -> None:
    admitted(SMALL, 4, START)

    assert empty_redis.ttl(bucket_key(SMALL, "user:1")) >= 299


def test_a_closed_gate_lets_nothing_be_counted(empty_redis: Redis) -> None:
    empty_redis.set("revoked", 1)

    with pytest.raises(GateClosed) as closed:
        admit(SMALL, "user:1", gates=[Gate("locked", 0), Gate("revoked", 0)], now=START)

    assert closed.value.index == 1
    assert admitted(SMALL, 10, START) == 5


def test_the_first_closed_gate_is_named(empty_redis: Redis) -> None:
    empty_redis.mset({"locked": 1, "revoked": 1})

    with pytest.raises(GateClosed) as closed:
        admit(SMALL, "user:1", gates=[Gate("locked", 0), Gate("revoked", 0)])

    assert closed.value.index == 0


@pytest.mark.parametrize("value", [None, "", "an-earlier-run", "0" * 40])
def test_a_gate_for_the_servers_run_is_closed_to_all_other_values(empty_redis: Redis, value: str | None) -> None:
    if value is not None:
        empty_redis.set("marker", value)

    with pytest.raises(GateClosed):
        admit(SMALL, "user:1", gates=[Gate("marker", None)])


def test_open_gates_let_through(empty_redis: Redis) -> None:
    empty_redis.set("marker", empty_redis.info("server")["run_id"])
    empty_redis.set("epoch", 3)

    assert admit(SMALL, "user:1", gates=[Gate("marker", None), Gate("epoch", 3), Gate("revoked", 0)]).admitted


def test_disabled_limits_count_nothing_but_gates_hold(settings: Settings, empty_redis: Redis) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    assert admitted(SMALL, 10, START) == 10
    assert not empty_redis.exists(bucket_key(SMALL, "user:1"))
    empty_redis.set("revoked", 1)
    with pytest.raises(GateClosed):
        admit(SMALL, "user:1", gates=[Gate("revoked", 0)])


def test_the_clock_is_redis(empty_redis: Redis) -> None:
    seconds, _ = empty_redis.time()

    decision = admit(SMALL, "user:1")

    assert seconds < decision.resets_at <= seconds + 61
    assert decision.resets_at % 60 == 0
    assert 0 < decision.resets_in <= 60


def test_a_redis_that_lost_the_script_gets_it_again(empty_redis: Redis) -> None:
    admit(SMALL, "user:1", now=START)
    empty_redis.script_flush()

    assert admit(SMALL, "user:1", now=START).remaining == 1


def test_without_redis_the_process_counts_alone() -> None:
    breaker._blocked_until = breaker.clock() + 60
    subject = f"user:{uuid.uuid4()}"

    with pytest.raises(RedisUnavailable):
        admit(SMALL, subject)
    decisions = [admit_or_fall_back(Tier("fallback", 100, 10), subject) for _ in range(120)]

    assert not decisions[0].exact
    assert 110 <= sum(decision.admitted for decision in decisions) <= 120  # a minute may turn meanwhile
    assert bucket_key(Tier("fallback", 100, 10), subject) in fallback._buckets


def test_the_headers_of_a_decision() -> None:
    decision = Decision(SMALL, True, 1, 2, resets_in=17, resets_at=NOON + 60)

    assert decision.headers() == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": str(NOON + 60),
        "RateLimit-Policy": '"small";q=3;w=60, "small-burst";q=2;w=300',
        "RateLimit": '"small";r=1;t=17, "small-burst";r=2;t=300',
    }


def test_a_refusal_names_its_tier_and_when_the_window_turns() -> None:
    error = Decision(SMALL, False, 0, 0, resets_in=17, resets_at=NOON + 60).error()

    assert (error.status, error.code) == (429, "LUCID_ERR_3001")
    assert error.headers == {"Retry-After": "17"}
    assert error.details == {"tier": "small", "retry_after": 17}


@given(
    limit=st.integers(1, 5),
    burst=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from([0, 1, 20, 59, 60, 61, 240, 299, 300, 301]), st.integers(1, 8))),
)
def test_the_script_decides_as_the_rules_say(limit: int, burst: int, steps: list[tuple[int, int]]) -> None:
    tier = Tier("model", limit, burst)
    plain, subject, now = PlainLimit(tier), f"user:{uuid.uuid4()}", START

    for seconds, requests in steps:
        now += seconds
        for _ in range(requests):
            decision = admit(tier, subject, now=now)
            assert (decision.admitted, decision.remaining, decision.burst_remaining) == plain.admit(now)
            assert decision.resets_at == now - now % 60 + 60
    assert not steps or redis_client().ttl(bucket_key(tier, subject)) > 0


BUSY = Tier("busy", requests_per_minute=300, burst_size=100)


def test_threads_are_admitted_exactly_to_the_limit() -> None:
    with ThreadPoolExecutor(16) as threads:
        decisions = list(threads.map(lambda _: admit(BUSY, "user:1", now=START), range(600)))

    assert sum(decision.admitted for decision in decisions) == 400


KNOCK = """
import sys, redis
url, script = sys.argv[1:]
admit = redis.Redis.from_url(url).register_script(script)
keys, numbers = ["rate_limit:busy:user:1", "quota", "concurrent"], [300, 100, 1_700_000_050, 0, 0, "", 0]
print(sum(admit(keys=keys, args=numbers)[0] for _ in range(200)))
"""


def test_processes_are_admitted_exactly_to_the_limit(settings: Settings) -> None:
    command = [sys.executable, "-c", KNOCK, settings.ENV.REDIS_URL, script.source]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    assert sum(int(process.communicate(timeout=30)[0]) for process in processes) == 400
