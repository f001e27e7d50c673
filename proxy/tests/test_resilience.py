"""Callers of a gateway whose clusters fail, hang, recover and move get errors, and other clusters are unaffected."""

import os
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from redis import Redis

from proxy.choosing.reports import InstanceReport, read_reports
from testing.gateway import Gateway, running_gateway
from testing.hammer import api, connections, front_workers
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit, saying, saying_and_resetting
from testing.http.messages import Cut, Ended, Message
from testing.parallel import in_parallel
from testing.servers import free_port
from testing.waiting import wait_until

pytestmark = pytest.mark.planes
PLACES, WORKERS = 8, 2
RESILIENT = {"CLUSTER_BREAKER_ENABLED": "true", "RATE_LIMIT_ENABLED": "false"}


@dataclass
class Stage:
    """A two-worker gateway with breakers, a cluster behind /wallets that tests break, and one behind /nodes."""

    gateway: Gateway
    wallets: RawCluster
    nodes: RawCluster
    token: str

    def ask(self, path: str = "/wallets", method: str = "GET") -> Message:
        """Send one request on a new connection."""
        with RawClient(self.gateway.port, self.token) as client:
            return client.ask(method, path)

    def statuses(self) -> set[int]:
        """Send four concurrent requests to each worker; return the statuses."""
        with connections(self.gateway, 8) as opened:
            for _, connection in opened:
                connection.send(api("GET", "/wallets", token=self.token))
            return {connection.read_answer().status for _, connection in opened}

    def open_the_circuit(self) -> None:
        """Send requests to a failing cluster until all workers refuse them. Those behind an edge take requests by
        chance, so that their reports have to say it, too.
        """
        wait_until(lambda: self.statuses() == {503} and self.open_breakers() == WORKERS)

    def reports(self) -> list[InstanceReport]:
        """Return what the workers of this gateway last said about each instance."""
        return [report for report in read_reports() if report.gateway.endswith(f":{self.gateway.port}")]

    def open_breakers(self) -> int:
        """Return how many workers have last reported that their breaker of the wallets is not closed."""
        return sum(report.cluster == "tron_payment" and report.breaker != "closed" for report in self.reports())


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    with (
        RawCluster() as wallets,
        RawCluster() as nodes,
        running_gateway(
            TRON_PAYMENT_URL=wallets.url,
            NODE_MANAGEMENT_URL=nodes.url,
            CLUSTER_MAX_IN_FLIGHT=str(PLACES),
            REDIS_URL=os.environ["REDIS_URL"],  # so that the tests can read the workers' reports
            **RESILIENT,
        ) as gateway,
    ):
        yield Stage(gateway, wallets, nodes, gateway.issue_token("demo@lucid.test"))


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    """The gateway with all circuits closed, before the test and after it."""
    for cluster in (whole_stage.wallets, whole_stage.nodes):
        cluster.forget()
    yield whole_stage
    whole_stage.wallets.forget()
    wait_until(lambda: whole_stage.statuses() == {200}, every=0.2)


def test_a_failing_cluster_gets_no_requests_until_it_recovers(stage: Stage) -> None:
    stage.wallets.behaviour = saying_and_resetting()
    assert (first := stage.ask(method="POST")).status == 502
    assert first.code == "5003"
    stage.open_the_circuit()
    asked = len(stage.wallets.requests)

    refused = stage.ask()
    assert (refused.status, refused.code) == (503, "5007")
    assert 1 <= int(refused.all("Retry-After")[0]) <= 10
    assert len(stage.wallets.requests) == asked
    assert stage.ask("/nodes").status == 200


def test_one_request_of_all_workers_is_the_probe(stage: Stage) -> None:
    stage.wallets.behaviour = saying_and_resetting()
    stage.open_the_circuit()
    answer_now = threading.Event()

    def hang(visit: Visit) -> None:
        answer_now.wait(25)
        visit.send(OK)

    stage.wallets.behaviour = hang
    asked = len(stage.wallets.requests)
    probes = [threading.Thread(target=stage.ask) for _ in range(200)]
    for probe in probes:
        probe.start()
        time.sleep(0.05)
        if len(stage.wallets.requests) > asked:
            break
    assert Counter(answer.status for answer in in_parallel(16, lambda _: stage.ask())) == {503: 16}
    assert len(stage.wallets.requests) == asked + 1
    answer_now.set()


def test_application_errors_of_a_cluster_open_no_breaker(stage: Stage) -> None:
    stage.wallets.behaviour = saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno")
    for _ in range(10):
        assert {answer.status for answer in in_parallel(PLACES // 2, lambda _: stage.ask())} == {500}
    assert stage.ask().status == 500


def test_unavailability_errors_open_the_breakers(stage: Stage) -> None:
    stage.wallets.behaviour = saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
    assert stage.ask().body == b"no"
    stage.open_the_circuit()  # with requests that are all answered 503
    while (answer := stage.ask()).body == b"no":
        pass
    assert answer.code == "5007"


@pytest.mark.django_plane  # for a moment, the edge does not take places that the gateway has given back: test_bursts
def test_a_hung_cluster_takes_no_places_of_other_clusters(stage: Stage) -> None:
    release = threading.Event()

    def hang(visit: Visit) -> None:
        release.wait(60)
        visit.send(OK)

    stage.wallets.behaviour = hang
    with connections(stage.gateway, 6 * PLACES) as opened:  # each worker has the same number
        for _, connection in opened:
            connection.send(api("GET", "/wallets", token=stage.token))
        wait_until(lambda: len(stage.wallets.requests) == 2 * PLACES)
        deadline = time.monotonic() + 30
        while len(select.select([one.sock for _, one in opened], [], [], 1)[0]) < 4 * PLACES:
            assert time.monotonic() < deadline  # the others are refused immediately

        refused = stage.ask()
        assert (refused.status, refused.code, refused.all("Retry-After")) == (503, "5008", ["1"])
        assert [stage.ask("/nodes").status for _ in range(20)] == [200] * 20
        release.set()
        statuses = Counter(connection.read_answer().status for _, connection in opened)
        assert statuses == {200: 2 * PLACES, 503: 4 * PLACES}
    assert len(stage.wallets.requests) == 2 * PLACES


def test_a_client_that_leaves_frees_its_place(stage: Stage) -> None:
    drip = threading.Event()

    def stream(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not drip.wait(0.05):
            visit.send(b"8\r\ndata: x\n\r\n")

    stage.wallets.behaviour = stream
    statuses: Counter[int] = Counter()
    deadline = time.monotonic() + 60
    while statuses[200] < 4 * PLACES:
        assert time.monotonic() < deadline
        with RawClient(stage.gateway.port, stage.token) as client:
            client.send(client.head("GET", "/wallets"))
            statuses[client.read_head().status] += 1
    assert set(statuses) <= {200, 503}
    drip.set()


def test_client_resets_do_not_count_as_failures_of_the_cluster(stage: Stage) -> None:
    stage.wallets.behaviour = lambda visit: visit.read_until(b"never")
    for number in range(1, 21):
        with RawClient(stage.gateway.port, stage.token) as client:
            client.send(client.head("GET", "/wallets"))
            wait_until(lambda number=number: len(stage.wallets.requests) == number)  # type: ignore[misc]
            client.reset()
        assert stage.wallets.visits[-1].over.wait(5)
    stage.wallets.behaviour = saying(OK)
    assert {stage.ask().status for _ in range(8)} == {200}
    assert len(stage.wallets.requests) == 28


def test_workers_report_their_view(stage: Stage, empty_redis: Redis) -> None:
    wait_until(lambda: len({report.worker for report in stage.reports()}) == WORKERS)
    assert {(report.cluster, report.breaker) for report in stage.reports()} >= {
        ("tron_payment", "closed"), ("node_management", "closed"),
    }  # fmt: skip


def test_the_access_log_has_instance_and_attempts(stage: Stage) -> None:
    stage.ask("/nodes")
    lines = wait_until(lambda: [line for line in stage.gateway.access_lines() if line["cluster"] == "node_management"])
    assert (lines[-1]["instance"], lines[-1]["attempts"]) == (stage.nodes.url, 1)
    assert len(lines[-1]["trace_id"]) == 32


def without_health(cluster: RawCluster) -> list[Message]:
    return [request for request in cluster.requests if request.target != "/health"]


def is_skipped(stage: Stage, cluster: RawCluster) -> bool:
    """Return whether none of twenty requests reaches the instance."""
    before = len(without_health(cluster))
    assert [stage.ask().status for _ in range(20)] == [200] * 20
    return len(without_health(cluster)) == before


def test_an_unhealthy_instance_is_skipped_until_its_checks_succeed() -> None:
    def fail_checks(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n" if visit.request.target == "/health" else OK)

    with RawCluster() as first, RawCluster() as second:
        first.behaviour, started = fail_checks, time.monotonic()
        with running_gateway(
            TRON_PAYMENT_URL=f"{first.url},{second.url}", CLUSTER_HEALTH_CHECKS_ENABLED="true",
            HEALTH_CHECK_INTERVAL="1", **RESILIENT,
        ) as gateway:  # fmt: skip
            stage = Stage(gateway, first, second, gateway.issue_token("demo@lucid.test"))
            wait_until(lambda: is_skipped(stage, first))  # one worker checks, and the other adopts the result
            before = len(without_health(first))
            checks = len(first.requests) - len(without_health(first))
            assert 1 <= checks <= time.monotonic() - started + 2  # of one worker, not of two

            first.behaviour = saying(OK)
            wait_until(lambda: stage.ask() and len(without_health(first)) >= before + 5)


def test_a_cluster_that_starts_late_is_found() -> None:
    port = free_port()
    settings = RESILIENT | {"REDIS_URL": os.environ["REDIS_URL"]}
    with running_gateway(TRON_PAYMENT_URL=f"http://127.0.0.1:{port}", **settings) as gateway:
        token = gateway.issue_token("demo@lucid.test")
        with RawCluster() as nodes:
            stage = Stage(gateway, nodes, nodes, token)
            assert (first := stage.ask()).status == 502
            assert first.code == "5005"
            stage.open_the_circuit()
            with RawCluster(port):
                wait_until(lambda: {answer.status for answer in in_parallel(8, lambda _: stage.ask())} == {200})


def test_a_killed_worker_loses_only_its_requests_under_way(stage: Stage) -> None:
    clients, kills, last_kill = PLACES, 2, threading.Event()

    def keep_requesting(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        since = 0
        while since <= 100 // clients:
            since += last_kill.is_set()
            try:
                seen[str(stage.ask("/nodes").status)] += 1
            except (OSError, Ended, Cut):
                seen["lost"] += 1
        return seen

    def kill() -> None:
        for _ in range(kills):
            time.sleep(1)
            os.kill(front_workers(stage.gateway)[0], signal.SIGKILL)
        last_kill.set()

    killer = threading.Thread(target=kill)
    killer.start()
    seen = in_parallel(clients, keep_requesting)
    killer.join()

    assert all(one["lost"] <= kills for one in seen)
    assert set().union(*seen) <= {"200", "lost"}
    assert sum(one["200"] for one in seen) > 100
