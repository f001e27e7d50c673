"""The bandwidth limit: a bucket on a real Redis that fills at a steady rate, and a body that is read no faster."""

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.redis.access import Outage, breaker, redis_client
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import BandwidthExceeded
from ratelimit.engine import bandwidth
from ratelimit.engine.bandwidth import LONGEST_WAIT_SECONDS, BandwidthDecision, LocalBuckets, MeteredInput, take
from ratelimit.engine.limits import ByteLimit
from ratelimit.engine.shadow import shadow_refusals_today
from ratelimit.tests.model import PlainBucket

SLOW = ByteLimit("slow", bytes_per_second=1_000, burst_bytes=4_000)
LONGEST_MS = int(LONGEST_WAIT_SECONDS * 1000)
START = 1_700_000_000_000


class Clock:
    """Stands in for the module `time`: sleeping takes no time, but is recorded and advances the clock."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(bandwidth, "time", clock)
    return clock


@pytest.fixture
def no_redis() -> Iterator[None]:
    """Redis is unavailable, and the process has counted nothing yet."""
    breaker.outage = Outage()
    bandwidth.local.levels.clear()
    yield
    bandwidth.local.levels.clear()


def metered(size: int, tier: ByteLimit = SLOW) -> MeteredInput:
    return MeteredInput(io.BytesIO(bytes(size)), tier, "user:1")


def test_the_burst_passes_at_once() -> None:
    decisions = [take(SLOW, "user:1", 1_000, now_ms=START) for _ in range(4)]

    assert [(decision.admitted, decision.wait) for decision in decisions] == [(True, 0)] * 4
    assert [decision.level for decision in decisions] == [3_000, 2_000, 1_000, 0]


def test_bytes_beyond_the_burst_have_to_wait() -> None:
    decisions = [take(SLOW, "user:1", size, now_ms=START) for size in (4_000, 500, 1_500)]

    assert [(decision.admitted, decision.wait) for decision in decisions] == [(True, 0), (True, 0.5), (True, 2.0)]


def test_bytes_that_would_wait_too_long_are_refused_and_not_taken() -> None:
    take(SLOW, "user:1", 4_000, now_ms=START)

    refused = [take(SLOW, "user:1", 2_500, now_ms=START) for _ in range(3)]

    assert [(decision.admitted, decision.wait, decision.level) for decision in refused] == [(False, 0.5, 0)] * 3
    assert take(SLOW, "user:1", 2_500, now_ms=START + 500).admitted


def test_the_bucket_fills_at_its_rate_up_to_the_burst() -> None:
    take(SLOW, "user:1", 4_000, now_ms=START)

    assert take(SLOW, "user:1", 0, now_ms=START + 1_500).level == 1_500
    assert take(SLOW, "user:1", 0, now_ms=START + 60_000).level == 4_000


def test_a_clock_that_is_set_back_does_not_change_the_level() -> None:
    take(SLOW, "user:1", 3_000, now_ms=START)

    assert take(SLOW, "user:1", 0, now_ms=START - 3_600_000).level == 1_000
    assert take(SLOW, "user:1", 0, now_ms=START - 3_599_000).level == 2_000


def test_each_subject_has_a_bucket_of_its_own() -> None:
    take(SLOW, "user:1", 6_000, now_ms=START)

    assert take(SLOW, "user:2", 0, now_ms=START).level == 4_000


def test_the_key_expires_when_the_bucket_is_full_again(empty_redis: Redis) -> None:
    take(SLOW, "user:1", 5_000, now_ms=START)

    assert empty_redis.ttl(keys.bandwidth("user:1", "slow")) == 6


def test_redis_provides_the_clock(empty_redis: Redis) -> None:
    take(SLOW, "user:1", 1_000)

    stored, (seconds, _) = empty_redis.hget(keys.bandwidth("user:1", "slow"), "t"), empty_redis.time()
    assert stored is not None
    assert abs(int(stored) / 1000 - seconds) < 5


# Rates in whole bytes per millisecond need no rounding; the others do.
RATES = st.one_of(st.integers(1, 50).map(lambda number: number * 1_000), st.integers(1, 50_000))
TIERS = st.builds(ByteLimit, st.just("model"), RATES, st.integers(0, 100_000))
STEPS = st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 150_000)), min_size=1, max_size=20)


def check_against_the_rules(
    tier: ByteLimit, steps: list[tuple[int, int]], take_at: Callable[[int, int], BandwidthDecision]
) -> None:
    """Compare each decision with the plain model's; `take_at` gets bytes and ms since the first step."""
    plain, now = PlainBucket(tier, LONGEST_MS), 0
    exact = tier.bytes_per_second % 1_000 == 0
    bytes_off = 0.0 if exact else 0.001 * len(steps)
    ms_off = bytes_off * 1_000 / tier.bytes_per_second
    for wait, size in steps:
        now += wait
        expected, level = plain.take(size, now)
        decision = take_at(size, now)
        needed = expected if expected >= 0 else LONGEST_MS - expected
        if not exact and abs(needed - LONGEST_MS) <= 1 + ms_off:
            return  # too close to a refusal for rounding
        assert decision.admitted is (expected >= 0)
        assert -ms_off - 0.001 <= decision.wait * 1_000 - abs(expected) <= 1 + ms_off
        assert abs(decision.level - level) <= 1 + bytes_off


@given(tier=TIERS, steps=STEPS)
def test_the_script_agrees_with_the_model(tier: ByteLimit, steps: list[tuple[int, int]]) -> None:
    subject = f"user:{uuid.uuid4()}"

    check_against_the_rules(tier, steps, lambda size, ms: take(tier, subject, size, now_ms=START + ms))


@given(tier=TIERS, steps=STEPS)
def test_every_bucket_has_an_expiry(tier: ByteLimit, steps: list[tuple[int, int]]) -> None:
    redis, now = redis_client(), START
    redis.flushall()
    for number, (wait, size) in enumerate(steps):
        now += -wait if number % 3 == 2 else wait  # a clock that is set back, too
        take(tier, "user:1", size, now_ms=now)

    buckets = list(redis.scan_iter("*:bandwidth:*"))
    assert all(0 < redis.ttl(key) <= 2 + LONGEST_WAIT_SECONDS + tier.burst_bytes for key in buckets)


@given(tier=TIERS, steps=STEPS)
def test_never_more_than_burst_and_rate_passes(tier: ByteLimit, steps: list[tuple[int, int]]) -> None:
    subject, now, passed = f"user:{uuid.uuid4()}", START, []
    for wait, size in steps:
        now += wait
        decision = take(tier, subject, size, now_ms=now)
        if decision.admitted:
            passed.append((now / 1_000 + decision.wait, size))

    for first, (begin, piece) in enumerate(passed):
        for last in range(first, len(passed)):
            total = sum(size for _, size in passed[first : last + 1])
            of_time = tier.bytes_per_second * (passed[last][0] - begin)
            # A piece passes as a whole; a piece larger than the burst has waited for its remaining bytes.
            assert total <= max(tier.burst_bytes, piece) + of_time + 1 + tier.bytes_per_second / 1_000


@given(tier=TIERS, before=STEPS, size=st.integers(1, 150_000))
def test_refused_bytes_pass_after_the_wait_that_the_refusal_names(
    tier: ByteLimit, before: list[tuple[int, int]], size: int
) -> None:
    size = min(size, tier.bytes_per_second)  # a body is read in pieces of at most this size
    subject, now = f"user:{uuid.uuid4()}", START
    for wait, earlier in before:
        now += wait
        take(tier, subject, earlier, now_ms=now)

    refused = take(tier, subject, size, now_ms=now)
    assert refused.admitted or take(tier, subject, size, now_ms=now + round(refused.wait * 1000)).admitted


def test_threads_share_one_bucket() -> None:
    with ThreadPoolExecutor(16) as threads:
        decisions = list(threads.map(lambda _: take(SLOW, "user:1", 100, now_ms=START), range(200)))

    assert sum(decision.admitted for decision in decisions) == 60  # the burst, and two seconds of waiting
    assert sorted(decision.level for decision in decisions if decision.admitted) == list(range(-2_000, 4_000, 100))


def test_bytes_that_are_read_are_counted_and_waited_for(clock: Clock, empty_redis: Redis) -> None:
    body = metered(6_000)

    assert [len(body.read(1_000)) for _ in range(7)] == [1_000] * 6 + [0]
    assert clock.slept[:4] == [0] * 4
    assert sum(clock.slept) == pytest.approx(1 + 2, abs=1)


def test_a_claimed_length_counts_nothing(clock: Clock) -> None:
    body = metered(10)

    assert body.read(1_000_000) == bytes(10)
    assert take(SLOW, "user:1", 0).level >= 3_990


def test_too_many_bytes_are_refused_with_3004_and_retry_after(clock: Clock) -> None:
    body = metered(9_000)
    take(SLOW, "user:1", 6_000)  # by another upload, which sleeps until they may pass

    with pytest.raises(BandwidthExceeded) as refused:
        body.read(1_000)

    assert (refused.value.status, refused.value.code) == (429, "LUCID_ERR_3004")
    assert refused.value.headers == {"Retry-After": "1"}
    assert refused.value.details == {"tier": "slow", "retry_after": 1}


def test_a_low_rate_slows_a_body_and_does_not_refuse_it(no_redis: None, clock: Clock) -> None:
    body = metered(1_000, ByteLimit("narrow", bytes_per_second=100, burst_bytes=50))

    assert sum(len(piece) for piece in iter(lambda: body.read(128 * 1024), b"")) == 1_000
    assert sum(clock.slept) == pytest.approx(9.5)


def test_a_real_wait_slows_the_reader() -> None:
    tier = ByteLimit("quick", bytes_per_second=1_000_000, burst_bytes=0)
    body, started = MeteredInput(io.BytesIO(bytes(200_000)), tier, "user:1"), time.monotonic()

    while body.read(50_000):
        continue

    assert time.monotonic() - started >= 0.18


def test_two_uploads_of_one_user_share_the_rate() -> None:
    tier = ByteLimit("quick", bytes_per_second=1_000_000, burst_bytes=0)
    started = time.monotonic()

    def upload() -> None:
        body = MeteredInput(io.BytesIO(bytes(100_000)), tier, "user:1")
        while body.read(10_000):
            continue

    threads = [threading.Thread(target=upload) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - started >= 0.18


def test_shadow_mode_counts_but_does_not_refuse(clock: Clock) -> None:
    body = metered(9_000, ByteLimit("slow", 1_000, 4_000, observe_only=True))

    assert [len(body.read(4_500)) for _ in range(3)] == [4_500, 4_500, 0]
    assert clock.slept == []
    assert shadow_refusals_today() == {"slow": 2}


def test_disabled_limits_count_no_bytes(settings: Settings, clock: Clock, empty_redis: Redis) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    assert len(metered(9_000).read(9_000)) == 9_000
    assert clock.slept == []
    assert not empty_redis.exists(keys.bandwidth("user:1", "slow"))


def test_without_redis_the_process_counts_on_its_own(no_redis: None, clock: Clock) -> None:
    body = metered(20_000)
    for _ in range(6):
        body.read(1_000)
    assert clock.slept == [0, 0, 0, 0, 1, 1]

    take(SLOW, "user:1", 1_500)
    with pytest.raises(BandwidthExceeded):
        body.read(1_000)


def test_without_redis_a_refusal_takes_nothing_and_each_subject_has_its_own_bucket() -> None:
    buckets = LocalBuckets()
    buckets.take(SLOW, "user:1", 4_000)

    assert [buckets.take(SLOW, "user:1", 9_000).admitted for _ in range(2)] == [False, False]
    assert -5 <= buckets.take(SLOW, "user:1", 0).level < 1_000
    assert buckets.take(SLOW, "user:2", 0).level == 4_000


def test_without_redis_the_bucket_fills_again(clock: Clock) -> None:
    buckets = LocalBuckets()
    buckets.take(SLOW, "user:1", 4_000)
    clock.now += 1.5

    assert buckets.take(SLOW, "user:1", 0).level == 1_500


def test_without_redis_a_process_remembers_a_bounded_number_of_subjects() -> None:
    buckets = LocalBuckets()
    for number in range(10_100):
        buckets.take(SLOW, f"user:{number}", 1)

    assert len(buckets.levels) <= 10_001


@given(tier=TIERS, steps=STEPS)
def test_without_redis_the_process_agrees_with_the_model(tier: ByteLimit, steps: list[tuple[int, int]]) -> None:
    buckets, clock = LocalBuckets(), Clock()

    def take_at(size: int, ms: int) -> BandwidthDecision:
        clock.now = ms / 1_000
        return buckets.take(tier, "user:1", size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandwidth, "time", clock)
        check_against_the_rules(tier, steps, take_at)


@pytest.mark.parametrize(("wait", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.001, "2"), (7.5, "8")])
def test_retry_after_is_in_whole_seconds_and_never_too_short(wait: float, told: str) -> None:
    assert BandwidthDecision(SLOW, False, wait, 0).error().headers == {"Retry-After": told}


def test_the_headers_of_a_decision_are_in_bytes() -> None:
    headers = BandwidthDecision(SLOW, True, 0, 1_500).headers()

    assert headers["X-RateLimit-Limit"] == "1000"
    assert headers["X-RateLimit-Remaining"] == "1500"
    assert headers["RateLimit-Policy"] == '"slow";q=4000;w=4;qu="content-bytes"'
    assert headers["RateLimit"] == '"slow";r=1500;t=3'
    assert abs(int(headers["X-RateLimit-Reset"]) - time.time() - 3) < 2


def test_remaining_bytes_are_never_negative() -> None:
    headers = BandwidthDecision(SLOW, True, 1.5, -1_500).headers()

    assert headers["X-RateLimit-Remaining"] == "0"
    assert headers["RateLimit"] == '"slow";r=0;t=6'
