"""Active health checks: what counts as healthy, when a verdict changes, and that a hanging check delays no other."""

import threading

import pytest
from prometheus_client import REGISTRY
from pytest_django.fixtures import Settings

from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.health_checks import Check, HealthChecker, checked_health, problem_of
from proxy.choosing.instances import NEVER_OPENS, InstanceState, states_of
from proxy.clusters import Cluster, Instance, cluster_named
from proxy.operators.closing import close_cluster, open_cluster
from testing.http.cluster import RawCluster, saying
from testing.servers import free_port
from testing.waiting import wait_until

SHORT = Timeouts(connect=2, read=2, total=2)


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", False),
        (b"nonsense\r\n\r\n", False),
        (b"", False),
    ],
)
def test_an_answer_below_500_in_time_is_healthy(raw_cluster: RawCluster, answer: bytes, healthy: bool) -> None:
    raw_cluster.behaviour = saying(answer)
    assert (problem_of(raw_cluster.instance, "/health", SHORT) is None) is healthy
    assert raw_cluster.request.start == "GET /health HTTP/1.1"


def test_an_instance_that_accepts_no_connection_is_unhealthy() -> None:
    assert problem_of(Instance("http", "127.0.0.1", free_port()), "/health", SHORT) == "connection refused"


def verdicts(*results: bool, interval: float = 30) -> list[bool | None]:
    check = Check(interval)
    found = []
    for result in results:
        check.note(result, now=0)
        found.append(check.verdict)
    return found


def test_the_first_result_decides() -> None:
    assert (verdicts(True), verdicts(False)) == ([True], [False])


def test_three_failures_in_a_row_change_the_verdict() -> None:
    assert verdicts(True, False, False, True, False, False, False) == [True, True, True, True, True, True, False]


def test_two_successes_in_a_row_change_it_back() -> None:
    assert verdicts(False, True, False, True, True) == [False, False, False, False, True]


def test_after_a_contrary_result_the_next_check_follows_in_a_second() -> None:
    check = Check(interval=30)
    due = []
    for result in (True, False, False, False, True, True):
        check.note(result, now=100)
        due.append(check.due_at - 100)
    assert due == [30, 1, 1, 30, 1, 30]


@pytest.mark.parametrize(
    ("healths", "finding"),
    [
        ([True, False, None], True),
        ([False, None], None),
        ([None, None], None),
        ([False, False], False),
    ],
)
def test_a_cluster_is_as_healthy_as_its_best_instance(
    healths: list[bool | None], finding: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [state_at(port) for port, _ in enumerate(healths, 1)]
    for state, healthy in zip(states, healths, strict=True):
        state.healthy = healthy
    monkeypatch.setattr("proxy.choosing.health_checks.states_of", lambda _: states)

    assert checked_health(Cluster("some_cluster", "some-service")) is finding


def test_an_instance_in_maintenance_does_not_count_for_its_cluster(
    db: None, twins: tuple[Instance, Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_named("blockchain_core")
    for state, healthy in zip(states_of(cluster), (True, False), strict=True):
        monkeypatch.setattr(state, "healthy", healthy)
    close_cluster(cluster=cluster.name, instance=twins[0].url, kind="maintenance", reason="x", by="operator")

    assert checked_health(cluster) is False


def state_at(port: int) -> InstanceState:
    return InstanceState("some_cluster", Instance("http", "127.0.0.1", port), NEVER_OPENS)


def test_a_hanging_check_delays_no_other_and_is_not_repeated(settings: Settings) -> None:
    release, asked = threading.Event(), []

    def ask(instance: Instance, path: str) -> None:
        asked.append(instance.port)
        if instance.port == 1:
            release.wait(5)

    checker, cluster = HealthChecker(ask), Cluster("some_cluster", "some-service", "SOME_URL")
    instances = [(cluster, state_at(1)), (cluster, state_at(2))]
    checker.start_due(instances)
    checker.start_due(instances)
    wait_until(lambda: "some_cluster|http://127.0.0.1:2" in checker.verdicts())
    assert asked == [1, 2]
    release.set()


def test_an_instance_in_maintenance_is_not_checked_and_its_result_is_forgotten(
    db: None, twins: tuple[Instance, Instance]
) -> None:
    asked: list[Instance] = []
    checker, cluster = (
        HealthChecker(lambda instance, path: asked.append(instance)),
        cluster_named("blockchain_core"),
    )
    instances = [(cluster, InstanceState(cluster.name, twin, NEVER_OPENS)) for twin in twins]
    checker.start_due(instances)
    wait_until(lambda: len(checker.verdicts()) == 2)

    close_cluster(cluster=cluster.name, instance=twins[0].url, kind="maintenance", reason="x", by="operator")
    close_cluster(cluster=cluster.name, instance=twins[1].url, kind="drain", reason="x", by="operator")
    checker.start_due(instances)
    assert set(checker.verdicts()) == {"blockchain_core|http://two.test"}

    open_cluster(cluster=cluster.name, instance=twins[0].url, by="operator")
    checker.start_due(instances)
    wait_until(lambda: len(checker.verdicts()) == 2)
    assert sorted(instance.url for instance in asked) == [twins[0].url, twins[0].url, twins[1].url]


def test_a_failed_check_is_counted() -> None:
    labels = {"cluster": "some_cluster", "kind": "health_check"}
    cluster = Cluster("some_cluster", "some-service", "SOME_URL")
    failed = lambda: REGISTRY.get_sample_value("lucid_own_calls_failed_total", labels) or 0  # noqa: E731
    before = failed()

    state = state_at(1)
    HealthChecker(lambda instance, path: "connection refused").start_due([(cluster, state)])

    wait_until(lambda: failed() == before + 1)
    assert state.last_error == "connection refused"
