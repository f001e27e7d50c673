"""The workers of one gateway share open breakers, the task of health checks, and their results."""

import json
import time
from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import Outage
from lucid_gateway.kernel.redis.access import breaker as redis_breaker
from lucid_gateway.policy import keys
from proxy.choosing.breaker import BreakerRule, State
from proxy.choosing.health_checks import HealthChecker
from proxy.choosing.instances import NEVER_OPENS, Attempt, InstanceState
from proxy.choosing.probes import may_probe
from proxy.choosing.reports import read_reports
from proxy.choosing.sharing import Sharing
from proxy.clusters import Cluster, Instance
from proxy.tests.test_breaker import Clock
from testing.waiting import wait_until

RULE = BreakerRule(consecutive_failures=1)
INSTANCE = Instance("http", "127.0.0.1", 1)
CLUSTER = Cluster("some_cluster", "some-service", "SOME_URL", instances=(INSTANCE,))


class Worker(Sharing):
    """A worker that shares its view of one instance."""

    def __init__(self, clock: Clock) -> None:
        self.state = InstanceState(CLUSTER.name, INSTANCE, RULE, clock)
        super().__init__(lambda: [(CLUSTER, self.state)])
        self.checker = HealthChecker(lambda instance, path: None)

    def probe(self, *, status: int) -> None:
        """Send the probe of a half-open breaker."""
        attempt = self.state.begin()
        assert attempt
        assert attempt.probe
        attempt.answered(status)
        attempt.end()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def one(clock: Clock) -> Worker:
    return Worker(clock)


@pytest.fixture
def other(clock: Clock) -> Worker:
    return Worker(clock)


def sync(*workers: Worker) -> None:
    for worker in workers:
        worker.sync()


def test_an_open_breaker_opens_in_all_workers(one: Worker, other: Worker) -> None:
    one.state.breaker.failed(no_answer=True)
    sync(one, other)
    assert other.state.breaker.state == State.OPEN
    assert other.state.breaker.open_until == pytest.approx(one.state.breaker.open_until, abs=0.5)


def test_a_breaker_closed_by_a_probe_closes_in_all_workers(one: Worker, other: Worker, clock: Clock) -> None:
    one.state.breaker.failed(no_answer=True)
    sync(one, other)
    clock.now += 60
    other.probe(status=200)
    sync(other, one)
    assert (one.state.breaker.state, one.state.recovered_at) == (State.CLOSED, clock.now)
    sync(one, other, one)
    assert {one.state.breaker.state, other.state.breaker.state} == {State.CLOSED}


def test_a_failed_probe_keeps_the_breaker_open(one: Worker, other: Worker, clock: Clock) -> None:
    one.state.breaker.failed(no_answer=True)
    sync(one, other)
    clock.now += RULE.first_pause + 0.5
    one.probe(status=503)
    sync(one, other)
    assert (one.state.breaker.state, other.state.breaker.state) == (State.OPEN, State.HALF_OPEN)


def test_only_one_worker_probes(one: Worker, other: Worker, clock: Clock) -> None:
    for worker in (one, other):
        worker.state.breaker.failed(no_answer=True)
    clock.now += RULE.first_pause
    attempts = [worker.state.begin() for worker in (one, other, one)]
    assert [attempt is not None for attempt in attempts] == [True, False, False]


def test_a_client_that_leaves_during_a_probe_allows_another_probe(
    one: Worker, clock: Clock, empty_redis: Redis
) -> None:
    one.state.breaker.failed(no_answer=True)
    clock.now += RULE.first_pause
    attempt = one.state.begin()
    assert attempt
    attempt.end()
    empty_redis.flushall()  # the lease runs out
    one.probe(status=200)
    assert one.state.breaker.state == State.CLOSED


def probe_under_way(worker: Worker, clock: Clock) -> Attempt:
    """Open the worker's breaker, wait for the end of its pause, and return the probe."""
    worker.state.breaker.open(RULE.first_pause)
    clock.now += RULE.first_pause
    attempt = worker.state.begin()
    assert attempt
    return attempt


def test_a_probe_is_judged_once_even_if_its_body_is_truncated(one: Worker, clock: Clock) -> None:
    one.state.breaker.rule = BreakerRule()
    attempt = probe_under_way(one, clock)
    attempt.answered(200)
    attempt.failed()
    assert one.state.breaker.state == State.CLOSED


@pytest.mark.parametrize("status", [200, 503])
def test_a_probe_whose_body_still_streams_blocks_no_other_probe(
    one: Worker, clock: Clock, empty_redis: Redis, status: int
) -> None:
    probe_under_way(one, clock).answered(status)
    one.state.breaker.failed(no_answer=True)
    clock.now = one.state.breaker.open_until
    empty_redis.flushall()  # the lease runs out
    one.probe(status=200)
    assert one.state.breaker.state == State.CLOSED


def test_another_gateway_on_the_same_redis_uses_its_own_results(
    one: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.state.breaker.failed(no_answer=True)
    one.sync()
    monkeypatch.setattr("proxy.choosing.sharing.gateway_name", lambda: "another-host:8080")
    other.sync()
    assert other.state.breaker.state == State.CLOSED


@pytest.fixture
def without_redis() -> Iterator[None]:
    redis_breaker.outage = Outage()
    yield
    redis_breaker.outage = None


@pytest.mark.usefixtures("without_redis")
def test_without_redis_each_worker_probes_for_itself() -> None:
    assert [may_probe("x"), may_probe("x")] == [True, True]


def test_disabled_breakers_never_open(one: Worker, other: Worker) -> None:
    other.state.breaker.rule = NEVER_OPENS
    one.state.breaker.failed(no_answer=True)
    sync(one, other)
    assert (one.state.breaker.state, other.state.breaker.state) == (State.OPEN, State.CLOSED)


def test_a_clock_set_back_does_not_keep_a_breaker_open(one: Worker, empty_redis: Redis, clock: Clock) -> None:
    empty_redis.hset(keys.open_breakers(gateway_name()), one.state.name, str(time.time() + 3600))
    one.sync()
    assert one.state.breaker.open_until - clock.now <= RULE.longest_pause


def test_sharing_goes_on_after_an_error(one: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[object] = []

    def fail() -> None:
        seconds.append(None)
        if len(seconds) == 3:
            raise SystemExit
        raise OSError("no room for the metrics")

    monkeypatch.setattr(one, "measure", fail)
    with pytest.raises(SystemExit):
        Loop("sharing", one.share_once, every=0.0).run()


@pytest.fixture
def checked(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"CLUSTER_HEALTH_CHECKS_ENABLED": True, "HEALTH_CHECK_INTERVAL": 1})


@pytest.mark.usefixtures("checked")
def test_one_worker_checks_and_the_others_adopt_the_result(one: Worker, other: Worker) -> None:
    sync(one, other)
    wait_until(one.checker.verdicts)
    sync(one, other)
    assert (one.state.healthy, other.state.healthy) == (True, True)
    assert other.checker.checks == {}


@pytest.mark.usefixtures("checked", "without_redis")
def test_without_redis_each_worker_checks_for_itself(one: Worker, other: Worker) -> None:
    for worker in (one, other):
        worker.share_once()
        wait_until(worker.checker.verdicts)
        worker.share_once()
    assert (one.state.healthy, other.state.healthy) == (True, True)


@pytest.mark.usefixtures("without_redis")
def test_disabled_checks_stay_off_without_redis(one: Worker) -> None:
    one.share_once()
    assert one.checker.checks == {}


@pytest.mark.usefixtures("checked")
def test_another_worker_takes_over_the_checks(one: Worker, other: Worker, empty_redis: Redis) -> None:
    sync(one, other)
    empty_redis.delete(keys.health_checker(gateway_name()))  # five seconds without a renewal
    sync(other, one)
    assert (bool(one.checker.checks), bool(other.checker.checks)) == (False, True)


@pytest.mark.usefixtures("checked")
def test_results_of_disabled_checks_are_ignored(
    one: Worker, other: Worker, settings: Settings, empty_redis: Redis
) -> None:
    sync(one)
    wait_until(one.checker.verdicts)
    sync(one)
    settings.ENV = settings.ENV.model_copy(update={"CLUSTER_HEALTH_CHECKS_ENABLED": False})
    empty_redis.expire(keys.instance_health(gateway_name()), 60)
    other.sync()
    assert other.state.healthy is None
    assert empty_redis.ttl(keys.instance_health(gateway_name())) <= 60


def test_reports_contain_the_workers_view(one: Worker, clock: Clock) -> None:
    assert one.state.begin()
    one.state.breaker.failed(no_answer=True)
    one.sync()
    (report,) = read_reports()
    assert (report.cluster, report.instance, report.in_flight, report.requests) == (
        "some_cluster", "http://127.0.0.1:1", 1, 1,
    )  # fmt: skip
    assert (report.breaker, report.health) == ("open", "unknown")
    assert report.open_until == pytest.approx(time.time() + RULE.first_pause, abs=1)


def test_reports_say_since_when_an_instance_is_down_and_why(one: Worker) -> None:
    attempt = one.state.begin()
    assert attempt
    attempt.failed("connection refused", no_answer=True)
    one.share_once()
    (first,) = read_reports()
    one.share_once()
    (second,) = read_reports()

    assert first.down_since == pytest.approx(time.time(), abs=10)
    assert (second.down_since, second.last_error) == (first.down_since, "connection refused")
    assert second.last_error_at == pytest.approx(time.time(), abs=10)
    assert second.places == 1_000


def test_an_instance_that_recovers_is_not_down_but_keeps_its_last_error(one: Worker, clock: Clock) -> None:
    attempt = one.state.begin()
    assert attempt
    attempt.failed("connection refused", no_answer=True)
    one.share_once()
    clock.now = one.state.breaker.open_until
    one.share_once()
    assert read_reports()[0].down_since is not None  # half-open: nobody knows yet
    one.probe(status=200)
    one.share_once()

    (report,) = read_reports()
    assert (report.down_since, report.last_error) == (None, "connection refused")


def test_a_new_worker_takes_over_since_when_an_instance_is_down_and_why(one: Worker, other: Worker) -> None:
    one.state.set_health(False)
    one.state.note_error("connection refused")
    one.share_once()
    assert one.state.down_since is not None
    one.state.down_since -= 500
    one.share_once()

    other.state.set_health(False)
    other.share_once()
    assert (other.state.down_since, other.state.last_error) == (one.state.down_since, "connection refused")
    assert other.state.last_error_at == one.state.last_error_at


def test_a_new_downtime_does_not_begin_with_an_earlier_one(one: Worker, other: Worker) -> None:
    one.state.set_health(False)
    one.share_once()
    one.state.set_health(True)
    one.share_once()

    before = time.time()
    other.state.set_health(False)
    other.share_once()
    assert other.state.down_since is not None
    assert other.state.down_since >= before


def test_a_downtime_that_nobody_renews_is_forgotten(
    one: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.state.set_health(False)
    one.share_once()
    monkeypatch.setattr("proxy.choosing.downtimes.CURRENT_SECONDS", -1.0)

    before = time.time()
    other.state.set_health(False)
    other.share_once()
    assert other.state.down_since is not None
    assert other.state.down_since >= before


def test_an_instance_whose_health_checks_fail_is_down(one: Worker) -> None:
    one.state.set_health(False)
    one.share_once()
    assert read_reports()[0].down_since is not None


def test_fields_of_another_release_are_ignored(one: Worker, empty_redis: Redis) -> None:
    one.share_once()
    ((field, text),) = empty_redis.hgetall(keys.WORKER_REPORTS).items()
    report = json.loads(text)
    report["instances"][0]["colour"] = "red"
    empty_redis.hset(keys.WORKER_REPORTS, field, json.dumps(report))
    assert read_reports()[0].instance == INSTANCE.url


def test_reports_of_stopped_workers_are_not_shown(one: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.choosing.reports.CURRENT_SECONDS", 0.0)
    one.sync()
    time.sleep(0.01)
    assert read_reports() == []


def test_every_key_has_an_expiry(one: Worker, empty_redis: Redis) -> None:
    one.state.breaker.failed(no_answer=True)
    sync(one)
    may_probe("x")
    assert [key for key in empty_redis.scan_iter() if empty_redis.ttl(key) < 0] == []
