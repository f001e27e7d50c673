"""The limiter on a real Redis: the limit of a minute, then the burst, decided in one atomic step."""

import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.redis.access import Outage, RedisUnavailable, breaker, redis_client
from lucid_gateway.policy import keys
from lucid_gateway.policy.keys import WORKER_REPORTS
from ratelimit.engine.leases import Lease, request_leases
from ratelimit.engine.limiter import (
    Decision,
    GateClosed,
    KeyGate,
    Verdict,
    admit,
    admit_or_fall_back,
    fallback,
    script,
)
from ratelimit.engine.limits import RequestLimit
from ratelimit.tests.model import DAY, PlainLimit, PlainLimiter
from testing.parallel import in_parallel

SMALL = RequestLimit("small", requests_per_minute=3, burst_size=2)
NOON = 1_700_000_000 - 1_700_000_000 % 60
START = NOON + 10


def admitted(tier: RequestLimit, times: int, now: int, subject: str = "user:1") -> int:
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


def test_using_the_rest_of_the_burst_delays_its_renewal() -> None:
    admitted(SMALL, 4, START)
    admitted(SMALL, 4, START + 200)

    assert admitted(SMALL, 10, START + 310) == 3
    assert admitted(SMALL, 10, START + 500) == 5


def test_a_refusal_does_not_delay_the_renewal() -> None:
    admitted(SMALL, 10, START)
    admitted(SMALL, 10, START + 250)

    assert admitted(SMALL, 10, START + 300) == 5  # a new minute and the whole burst


def test_a_clock_that_is_set_back_opens_no_second_window() -> None:
    admitted(SMALL, 10, NOON + 60)

    decision = admit(SMALL, "user:1", now=NOON + 59)

    assert not decision.admitted
    assert decision.resets_at == NOON + 120


def test_the_burst_renews_after_the_clock_ran_ahead_for_a_while(empty_redis: Redis) -> None:
    admitted(SMALL, 10, START + DAY)

    assert admitted(SMALL, 10, START) == 5
    assert empty_redis.ttl(keys.rate("user:1", SMALL.name)) <= 300


def test_each_subject_and_each_tier_has_its_own_bucket() -> None:
    admitted(SMALL, 10, START)

    assert admitted(SMALL, 10, START, subject="user:2") == 5
    assert admitted(RequestLimit("other", 1, 0), 10, START) == 1


def test_every_key_has_an_expiry(empty_redis: Redis) -> None:
    for step in range(0, 400, 7):
        admit(SMALL, "user:1", now=START + step)
        admit(RequestLimit("no-burst", 1, 0), "user:1", now=START + step)
        ages = {key: empty_redis.ttl(key) for key in empty_redis.scan_iter()}

        assert len(ages) == 2
        assert all(0 < age <= 300 for age in ages.values()), ages


def test_a_bucket_without_a_used_burst_expires_with_its_window(empty_redis: Redis) -> None:
    admit(SMALL, "user:1", now=START)

    assert empty_redis.ttl(keys.rate("user:1", SMALL.name)) == 51


def test_a_used_burst_is_remembered_until_it_renews(empty_redis: Redis) -> None:
    admitted(SMALL, 4, START)

    assert empty_redis.ttl(keys.rate("user:1", SMALL.name)) >= 299


def test_a_closed_gate_refuses_before_anything_is_counted(empty_redis: Redis) -> None:
    empty_redis.set("revoked", 1)

    with pytest.raises(GateClosed) as closed:
        admit(SMALL, "user:1", gates=[KeyGate("locked", 0), KeyGate("revoked", 0)], now=START)

    assert closed.value.index == 1
    assert admitted(SMALL, 10, START) == 5


def test_the_first_closed_gate_is_named(empty_redis: Redis) -> None:
    empty_redis.mset({"locked": 1, "revoked": 1})

    with pytest.raises(GateClosed) as closed:
        admit(SMALL, "user:1", gates=[KeyGate("locked", 0), KeyGate("revoked", 0)])

    assert closed.value.index == 0


@pytest.mark.parametrize("value", [None, "", "an-earlier-run", "0" * 40])
def test_a_run_id_gate_is_closed_for_every_other_value(empty_redis: Redis, value: str | None) -> None:
    if value is not None:
        empty_redis.set("marker", value)

    with pytest.raises(GateClosed):
        admit(SMALL, "user:1", gates=[KeyGate("marker", None)])


def test_open_gates_admit(empty_redis: Redis) -> None:
    empty_redis.set("marker", empty_redis.info("server")["run_id"])
    empty_redis.set("epoch", 3)

    assert admit(SMALL, "user:1", gates=[KeyGate("marker", None), KeyGate("epoch", 3), KeyGate("revoked", 0)]).admitted


def test_disabled_limits_count_nothing_but_gates_still_refuse(settings: Settings, empty_redis: Redis) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    assert admitted(SMALL, 10, START) == 10
    assert not empty_redis.exists(keys.rate("user:1", SMALL.name))
    empty_redis.set("revoked", 1)
    with pytest.raises(GateClosed):
        admit(SMALL, "user:1", gates=[KeyGate("revoked", 0)])


def test_redis_provides_the_clock(empty_redis: Redis) -> None:
    seconds, _ = empty_redis.time()

    decision = admit(SMALL, "user:1")

    assert seconds < decision.resets_at <= seconds + 61
    assert decision.resets_at % 60 == 0
    assert 0 < decision.resets_in <= 60


def test_the_script_is_loaded_again_after_redis_lost_it(empty_redis: Redis) -> None:
    admit(SMALL, "user:1", now=START)
    empty_redis.script_flush()

    assert admit(SMALL, "user:1", now=START).remaining == 1


def test_without_redis_one_process_counts_on_its_own() -> None:
    breaker.outage = Outage()
    subject = f"user:{uuid.uuid4()}"

    with pytest.raises(RedisUnavailable):
        admit(SMALL, subject)
    decisions = [admit_or_fall_back(RequestLimit("fallback", 100, 10), subject) for _ in range(120)]

    assert not decisions[0].exact
    assert 110 <= sum(decision.admitted for decision in decisions) <= 120  # the minute may end meanwhile
    assert keys.rate(subject, "fallback") in fallback._buckets


def test_the_headers_of_a_decision() -> None:
    decision = Decision(SMALL, Verdict.ADMITTED, 1, 2, resets_in=17, resets_at=NOON + 60)

    assert decision.headers() == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": str(NOON + 60),
        "RateLimit-Policy": '"small";q=3;w=60, "small-burst";q=2;w=300',
        "RateLimit": '"small";r=1;t=17, "small-burst";r=2;t=300',
    }


def test_a_refusal_names_its_tier_and_the_end_of_the_window() -> None:
    error = Decision(SMALL, Verdict.OVER_LIMIT, 0, 0, resets_in=17, resets_at=NOON + 60).error()

    assert (error.status, error.code) == (429, "LUCID_ERR_3001")
    assert error.headers == {"Retry-After": "17"}
    assert error.details == {"tier": "small", "retry_after": 17}


@given(
    limit=st.integers(1, 5),
    burst=st.integers(0, 4),
    steps=st.lists(st.tuples(st.sampled_from([0, 1, 20, 59, 60, 61, 240, 299, 300, 301]), st.integers(1, 8))),
)
def test_the_script_agrees_with_the_model(limit: int, burst: int, steps: list[tuple[int, int]]) -> None:
    tier = RequestLimit("model", limit, burst)
    plain, subject, now = PlainLimit(tier), f"user:{uuid.uuid4()}", START

    for seconds, requests in steps:
        now += seconds
        for _ in range(requests):
            decision = admit(tier, subject, now=now)
            assert (decision.admitted, decision.remaining, decision.burst_remaining) == plain.admit(now)
            assert decision.resets_at == now - now % 60 + 60
    assert not steps or redis_client().ttl(keys.rate(subject, tier.name)) > 0


BUSY = RequestLimit("busy", requests_per_minute=300, burst_size=100)


def test_concurrent_threads_are_admitted_exactly_up_to_the_limit() -> None:
    with ThreadPoolExecutor(16) as threads:
        decisions = list(threads.map(lambda _: admit(BUSY, "user:1", now=START), range(600)))

    assert sum(decision.admitted for decision in decisions) == 400


KNOCK = """
import sys, redis
url, script = sys.argv[1:]
admit = redis.Redis.from_url(url).register_script(script)
keys, numbers = ["rate_limit:busy:user:1", "quota", "concurrent"], [300, 100, 1_700_000_050, 0, 0, "", 0, 0, 0, 0]
print(sum(admit(keys=keys, args=numbers)[0] for _ in range(200)))
"""


def test_concurrent_processes_are_admitted_exactly_up_to_the_limit(settings: Settings) -> None:
    command = [sys.executable, "-c", KNOCK, settings.ENV.REDIS_URL, script.source]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    assert sum(int(process.communicate(timeout=30)[0]) for process in processes) == 400


def refusals(tier: RequestLimit, times: int, now: int) -> list[int]:
    return [admit(tier, "user:1", now=now).refused for _ in range(times)]


def test_the_refusals_of_a_window_are_numbered() -> None:
    assert refusals(SMALL, 8, START) == [0] * 5 + [1, 2, 3]
    assert refusals(SMALL, 5, NOON + 60) == [0] * 3 + [1, 2]


def test_each_concurrent_refusal_has_its_own_number() -> None:
    with ThreadPoolExecutor(16) as threads:
        numbers = list(threads.map(lambda _: admit(SMALL, "user:1", now=START).refused, range(105)))

    assert sorted(numbers) == [0] * 5 + list(range(1, 101))


def test_remaining_is_zero_and_not_negative_after_a_limit_was_lowered() -> None:
    admitted(RequestLimit("small", 10, 4), 12, START)

    decisions = [admit(RequestLimit("small", 5, 3), "user:1", now=START) for _ in range(2)]

    assert [decision.admitted for decision in decisions] == [True, False]
    assert {(decision.remaining, decision.burst_remaining) for decision in decisions} == {(0, 0)}
    decision = admit(RequestLimit("small", 5, 1), "user:1", now=NOON + 60)
    assert (decision.remaining, decision.burst_remaining) == (4, 0)


QUOTA = RequestLimit("quota", requests_per_minute=100, burst_size=0, daily_quota=3)
MIDNIGHT = START - START % DAY + DAY


def test_a_day_admits_the_quota() -> None:
    assert admitted(QUOTA, 5, START) == 3
    assert admitted(QUOTA, 5, START, subject="user:2") == 3


def test_requests_over_the_quota_get_3002_until_midnight_utc() -> None:
    admitted(QUOTA, 3, START)

    decision = admit(QUOTA, "user:1", now=START)

    error = decision.error()
    assert (decision.verdict, error.status, error.code) == (Verdict.OVER_QUOTA, 429, "LUCID_ERR_3002")
    assert error.headers["Retry-After"] == str(MIDNIGHT - START) == str(error.details["retry_after"])
    assert decision.resets_at == MIDNIGHT


def test_after_retry_after_the_quota_of_a_new_day_applies() -> None:
    admitted(QUOTA, 3, START)

    assert admit(QUOTA, "user:1", now=MIDNIGHT - 1).error().headers["Retry-After"] == "1"
    assert admitted(QUOTA, 5, MIDNIGHT) == 3


def test_the_quota_is_counted_over_all_tiers() -> None:
    admitted(QUOTA, 2, START)

    assert admitted(RequestLimit("other", 100, 0, daily_quota=3), 5, START) == 1


def test_requests_refused_for_another_reason_do_not_use_the_quota() -> None:
    admitted(RequestLimit("narrow", 1, 0, daily_quota=3), 5, START)

    assert admitted(QUOTA, 5, START) == 2


def everything(redis: Redis) -> dict[bytes, object]:
    """Return the stored counters, and the leases without their ends."""
    return {
        key: redis.hgetall(key) if redis.type(key) == b"hash" else redis.zrange(key, 0, -1) for key in redis.scan_iter()
    }


@pytest.mark.parametrize(
    ("tier", "verdict"),
    [
        (RequestLimit("full", 5, 2, concurrent_requests=9, daily_quota=3), Verdict.OVER_QUOTA),
        (RequestLimit("full", 5, 2, concurrent_requests=3, daily_quota=9), Verdict.TOO_MANY_AT_ONCE),
    ],
)
def test_requests_over_quota_or_concurrency_are_not_counted(
    empty_redis: Redis, tier: RequestLimit, verdict: Verdict
) -> None:
    admitted(tier, 3, START)
    before = everything(empty_redis)

    decisions = [admit(tier, "user:1", now=START) for _ in range(5)]

    assert {(decision.verdict, decision.lease) for decision in decisions} == {(verdict, None)}
    assert everything(empty_redis) == before
    assert len(before) == 3


@pytest.mark.parametrize("quota", [1, 50])
def test_concurrent_threads_are_admitted_exactly_up_to_the_quota(quota: int) -> None:
    tier = RequestLimit("quota", 1_000, 0, daily_quota=quota)
    with ThreadPoolExecutor(16) as threads:
        decisions = list(threads.map(lambda _: admit(tier, "user:1", now=START), range(200)))

    assert sum(decision.admitted for decision in decisions) == quota


AT_ONCE = RequestLimit("at-once", requests_per_minute=1_000, burst_size=0, concurrent_requests=4)


@pytest.mark.parametrize("limit", [1, 4, 8])
def test_exactly_the_limit_of_parallel_requests_is_admitted(limit: int) -> None:
    tier = RequestLimit("at-once", 1_000, 0, concurrent_requests=limit)

    decisions = in_parallel(4 * limit, lambda _: admit(tier, "user:1"))

    assert sum(decision.admitted for decision in decisions) == limit
    assert len({decision.lease for decision in decisions if decision.lease}) == limit


def test_too_many_concurrent_requests_get_3005_and_a_short_retry_after() -> None:
    admitted(AT_ONCE, 4, START)

    decision = admit(AT_ONCE, "user:1", now=START)

    error = decision.error()
    assert (decision.lease, error.status, error.code) == (None, 429, "LUCID_ERR_3005")
    assert error.headers == {"Retry-After": "1"}


def test_each_released_lease_admits_one_more_request() -> None:
    leases = [decision.lease for decision in (admit(AT_ONCE, "user:1") for _ in range(6)) if decision.lease]
    for lease in leases[:3]:
        request_leases.release(lease)
        request_leases.release(lease)  # a second release changes nothing

    assert sum(admit(AT_ONCE, "user:1").admitted for _ in range(6)) == 3


def test_concurrent_requests_never_exceed_the_limit() -> None:
    free, crowded = threading.Semaphore(4), []

    def pass_through(_: int) -> bool:
        decision = admit(AT_ONCE, "user:1")
        if decision.lease is not None:
            crowded.extend([] if free.acquire(blocking=False) else [decision])
            time.sleep(0.001)
            free.release()
            request_leases.release(decision.lease)
        return decision.admitted

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(pass_through, range(300))) > 4
    assert crowded == []
    assert sum(admit(AT_ONCE, "user:1").admitted for _ in range(6)) == 4


def test_the_leases_of_a_dead_worker_expire() -> None:
    admitted(AT_ONCE, 4, START)

    assert admitted(AT_ONCE, 4, START + 14) == 0
    assert admitted(AT_ONCE, 9, START + 16) == 4


def test_concurrent_requests_are_counted_over_all_tiers() -> None:
    admitted(AT_ONCE, 3, START)

    assert admitted(RequestLimit("other", 100, 0, concurrent_requests=4), 5, START) == 1
    assert admitted(AT_ONCE, 9, START, subject="user:2") == 4


def test_disabled_limits_apply_no_quota_and_no_leases(settings: Settings, empty_redis: Redis) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    tier = RequestLimit("full", 1, 0, concurrent_requests=1, daily_quota=1)

    assert admitted(tier, 5, START) == 5
    assert list(empty_redis.scan_iter()) == []


def test_shadow_mode_of_the_rate_does_not_affect_quota_and_concurrency() -> None:
    tier = RequestLimit("shadow", 2, 0, concurrent_requests=4, daily_quota=100, observe_only=True)
    decisions = [admit(tier, "user:1", now=START) for _ in range(6)]

    assert [decision.observed for decision in decisions] == [False, False, True, True, False, False]
    assert [decision.admitted for decision in decisions] == [True] * 4 + [False] * 2
    assert [decision.lease is not None for decision in decisions] == [True] * 4 + [False] * 2
    assert admitted(RequestLimit("quota", 100, 0, daily_quota=6), 9, START) == 2


@pytest.mark.parametrize("totals", [{"daily_quota": 1}, {"concurrent_requests": 1}], ids=str)
def test_shadow_mode_of_quota_and_concurrency_does_not_affect_the_rate(totals: dict[str, int]) -> None:
    tier = RequestLimit("shadow", 3, 1, observe_totals=True, **totals)
    decisions = [admit(tier, "user:1", now=START) for _ in range(6)]

    assert [decision.observed for decision in decisions] == [False, True, True, True, False, False]
    assert [decision.admitted for decision in decisions] == [True] * 4 + [False] * 2
    assert decisions[-1].error().code == "LUCID_ERR_3001"


# No sum of these is the 15 seconds of a lease: it ends between two seconds, which the clock of the tests cannot show.
SECONDS = st.sampled_from([0, 4, 20, 59, 60, 61, 240, 299, 300, 301, DAY // 2])
TIERS = st.builds(
    RequestLimit,
    st.just("model"),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("admit"), st.integers(1, 5)),
        st.tuples(st.just("wait"), SECONDS),
        st.tuples(st.just("give back"), st.integers(0, 9)),
        st.tuples(st.just("gate"), st.integers(0, 2)),
    ),
    max_size=25,
)


class Against:
    """The script and the model must decide each request in the same way."""

    def __init__(self, tier: RequestLimit) -> None:
        self.tier, self.subject, self.now = tier, f"user:{uuid.uuid4()}", START
        self.gate, self.closed = KeyGate(f"gate:{self.subject}", 1), False
        self.plain = PlainLimiter(tier)
        self.leases: list[Lease] = []

    def admit(self, times: int) -> None:
        for _ in range(times):
            if self.closed:
                with pytest.raises(GateClosed):
                    admit(self.tier, self.subject, gates=[self.gate], now=self.now)
            else:
                self.compare(admit(self.tier, self.subject, gates=[self.gate], now=self.now))

    def compare(self, decision: Decision) -> None:
        held = len([end for end in self.plain.ends if end > self.now])
        del self.leases[: len(self.leases) - held]  # the expired ones
        expected = self.plain.admit(self.now)
        assert (decision.verdict, decision.remaining, decision.burst_remaining) == expected
        if self.tier.concurrent_requests and len(self.plain.ends) > held:
            assert decision.lease is not None
            self.leases.append(decision.lease)

    def wait(self, seconds: int) -> None:
        self.now += seconds

    def release(self, index: int) -> None:
        if self.tier.concurrent_requests and index < len(self.leases):
            request_leases.release(self.leases.pop(index))
            self.plain.release(index)

    def set_gate(self, value: int) -> None:
        self.closed = value > 1
        redis_client().set(self.gate.key, value, ex=60)


@given(tier=TIERS, steps=STEPS)
def test_gates_leases_quota_and_rate_agree_with_the_model(tier: RequestLimit, steps: list[tuple[str, int]]) -> None:
    sides = Against(tier)
    do = {"admit": sides.admit, "wait": sides.wait, "give back": sides.release, "gate": sides.set_gate}

    for step, number in steps:
        do[step](number)


@given(tiers=st.lists(TIERS, min_size=1, max_size=3), steps=STEPS)
def test_every_key_has_an_expiry_whatever_happens(tiers: list[RequestLimit], steps: list[tuple[str, int]]) -> None:
    redis, now = redis_client(), START
    redis.flushall()
    for number, (step, amount) in enumerate(steps):
        if step == "admit":
            for _ in range(amount):
                admit(tiers[number % len(tiers)], "user:1", now=now)
        else:
            now += amount if step == "wait" else -amount  # a clock that is set back, too

    # Gateways of other tests write the state of their clusters.
    ages = {
        key: redis.ttl(key) for key in redis.scan_iter() if not key.startswith((b"{gateway:", WORKER_REPORTS.encode()))
    }
    assert all(0 < age <= DAY + 1 for age in ages.values()), ages
    assert ages.keys() <= {
        name.encode() for name in (keys.rate("user:1", "model"), keys.quota("user:1"), keys.concurrent("user:1"))
    }
