"""A gateway whose clusters fail, hang, recover and move: what callers of them, and of the others, get."""

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
from testing.hammer import api, connections, workers
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit, saying, saying_and_resetting
from testing.http.messages import Cut, Ended, Message
from testing.parallel import in_parallel
from testing.servers import free_port
from testing.waiting import wait_until

PLACES = 8
RESILIENT = {"CLUSTER_BREAKER_ENABLED": "true", "RATE_LIMIT_ENABLED": "false"}


@dataclass
class Stage:
    """A two-worker gateway with breakers, a cluster behind /wallets that a test breaks, and one behind /nodes."""

    gateway: Gateway
    wallets: RawCluster
    nodes: RawCluster
    token: str

    def ask(self, path: str = "/wallets", method: str = "GET") -> Message:
        """Send one request on a connection of its own."""
        with RawClient(self.gateway.port, self.token) as client:
            return client.ask(method, path)

    def statuses(self) -> set[int]:
        """Ask each worker four times at once; return what they answer."""
        with connections(self.gateway, 8) as opened:
            for _, connection in opened:
                connection.send(api("GET", "/wallets", token=self.token))
            return {connection.read_answer().status for _, connection in opened}

    def open_the_circuit(self) -> None:
        """Ask a failing cluster until all workers refuse to."""
        wait_until(lambda: self.statuses() == {503})


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    with (
        RawCluster() as wallets,
        RawCluster() as nodes,
        running_gateway(
            TRON_PAYMENT_URL=wallets.url,
            NODE_MANAGEMENT_URL=nodes.url,
            CLUSTER_MAX_IN_FLIGHT=str(PLACES),
            REDIS_URL=os.environ["REDIS_URL"],  # for the tests to read what the workers report
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


def test_a_cluster_that_fails_is_asked_no_more_until_it_recovers(stage: Stage) -> None:
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


def test_half_open_one_request_of_all_workers_is_the_probe(stage: Stage) -> None:
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


def test_plain_errors_of_a_cluster_close_nothing(stage: Stage) -> None:
    stage.wallets.behaviour = saying(b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno")
    for _ in range(10):
        assert {answer.status for answer in in_parallel(PLACES // 2, lambda _: stage.ask())} == {500}
    assert stage.ask().status == 500


def test_errors_that_say_it_is_not_there_do(stage: Stage) -> None:
    stage.wallets.behaviour = saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
    assert stage.ask().body == b"no"
    stage.open_the_circuit()  # with requests that are all answered 503
    while (answer := stage.ask()).body == b"no":
        pass
    assert answer.code == "5007"


def test_a_hung_cluster_takes_its_places_and_nobody_else_s(stage: Stage) -> None:
    release = threading.Event()

    def hang(visit: Visit) -> None:
        release.wait(60)
        visit.send(OK)

    stage.wallets.behaviour = hang
    with connections(stage.gateway, 6 * PLACES) as opened:  # the same number to each worker
        for _, connection in opened:
            connection.send(api("GET", "/wallets", token=stage.token))
        wait_until(lambda: len(stage.wallets.requests) == 2 * PLACES)
        deadline = time.monotonic() + 30
        while len(select.select([one.sock for _, one in opened], [], [], 1)[0]) < 4 * PLACES:
            assert time.monotonic() < deadline  # the others are refused at once

        refused = stage.ask()
        assert (refused.status, refused.code, refused.all("Retry-After")) == (503, "5008", ["1"])
        assert [stage.ask("/nodes").status for _ in range(20)] == [200] * 20
        release.set()
        statuses = Counter(connection.read_answer().status for _, connection in opened)
        assert statuses == {200: 2 * PLACES, 503: 4 * PLACES}
    assert len(stage.wallets.requests) == 2 * PLACES


def test_a_client_that_leaves_gives_its_place_back(stage: Stage) -> None:
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


def test_clients_that_reset_their_connections_are_no_failures_of_the_cluster(stage: Stage) -> None:
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


def test_workers_report_what_they_see(stage: Stage, empty_redis: Redis) -> None:
    def own() -> list[InstanceReport]:
        return [report for report in read_reports() if report.gateway.endswith(f":{stage.gateway.port}")]

    wait_until(lambda: len({report.worker for report in own()}) == 2)
    assert {(report.cluster, report.breaker) for report in own()} >= {
        ("tron_payment", "closed"), ("node_management", "closed"),
    }  # fmt: skip


def test_the_log_tells_instance_and_attempts(stage: Stage) -> None:
    stage.ask("/nodes")
    lines = wait_until(lambda: [line for line in stage.gateway.access_lines() if line["cluster"] == "node_management"])
    assert (lines[-1]["instance"], lines[-1]["attempts"]) == (stage.nodes.url, 1)
    assert len(lines[-1]["trace_id"]) == 32


def without_health(cluster: RawCluster) -> list[Message]:
    return [request for request in cluster.requests if request.target != "/health"]


def passes_over(stage: Stage, cluster: RawCluster) -> bool:
    """Return whether none of twenty requests reaches the instance."""
    before = len(without_health(cluster))
    assert [stage.ask().status for _ in range(20)] == [200] * 20
    return len(without_health(cluster)) == before


def test_an_instance_whose_checks_fail_is_passed_over_until_they_succeed() -> None:
    def ill(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n" if visit.request.target == "/health" else OK)

    with RawCluster() as first, RawCluster() as second:
        first.behaviour, started = ill, time.monotonic()
        with running_gateway(
            TRON_PAYMENT_URL=f"{first.url},{second.url}", CLUSTER_HEALTH_CHECKS_ENABLED="true",
            HEALTH_CHECK_INTERVAL="1", **RESILIENT,
        ) as gateway:  # fmt: skip
            stage = Stage(gateway, first, second, gateway.issue_token("demo@lucid.test"))
            wait_until(lambda: passes_over(stage, first))  # one worker checks, and the other hears of it
            before = len(without_health(first))
            checks = len(first.requests) - len(without_health(first))
            assert 1 <= checks <= time.monotonic() - started + 2  # of one worker, not of two

            first.behaviour = saying(OK)
            wait_until(lambda: stage.ask() and len(without_health(first)) >= before + 5)


def test_a_cluster_that_was_never_there_is_found_when_it_comes() -> None:
    port = free_port()
    with running_gateway(TRON_PAYMENT_URL=f"http://127.0.0.1:{port}", **RESILIENT) as gateway:
        token = gateway.issue_token("demo@lucid.test")
        with RawCluster() as nodes:
            stage = Stage(gateway, nodes, nodes, token)
            assert (first := stage.ask()).status == 502
            assert first.code == "5005"
            stage.open_the_circuit()
            with RawCluster(port):
                wait_until(lambda: {answer.status for answer in in_parallel(8, lambda _: stage.ask())} == {200})


def test_a_worker_that_is_killed_loses_what_it_had_under_way_and_nothing_else(stage: Stage) -> None:
    clients, kills, last_kill = PLACES, 2, threading.Event()

    def go_on_asking(_: int) -> Counter[str]:
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
            os.kill(workers(stage.gateway)[0], signal.SIGKILL)
        last_kill.set()

    killer = threading.Thread(target=kill)
    killer.start()
    seen = in_parallel(clients, go_on_asking)
    killer.join()

    assert all(one["lost"] <= kills for one in seen)
    assert set().union(*seen) <= {"200", "lost"}
    assert sum(one["200"] for one in seen) > 100
