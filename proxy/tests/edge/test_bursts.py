"""Requests of the same moment, of which Redis has answered none yet, are spread and limited as others are."""

import contextlib
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ratelimit.tests.relay import Relay, running_relay
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit
from testing.http.messages import Message
from testing.servers import running_redis
from testing.waiting import wait_until

PLACES = 12
# A request that the gateway has in progress by chance takes a place from the edge: until its worker reports again, the
# snapshot is published, and the edge reads it, each within a second.
SETTLED_SECONDS = 3.0


@dataclass
class Stage:
    """A gateway and its edge, with two instances of a cluster that answer when they may, a third cluster, and a Redis
    that can be slow.
    """

    gateway: Gateway
    instances: tuple[RawCluster, RawCluster]
    relay: Relay
    token: str
    go_on: threading.Event

    def wait(self, visit: Visit) -> None:
        """Answer when the instances may."""
        self.go_on.wait(60)
        visit.send(OK)

    def received(self) -> list[int]:
        """Return how many requests each instance has received."""
        return [len(instance.requests) for instance in self.instances]

    def ask(self, path: str) -> Message:
        with RawClient(self.gateway.port, self.token) as client:
            return client.ask("GET", path)

    @contextlib.contextmanager
    def burst(self, count: int) -> Iterator[list[RawClient]]:
        """Send so many requests before Redis answers the first one."""
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(RawClient(self.gateway.port, self.token)) for _ in range(count)]
            self.relay.delay = 0.1
            for client in clients:
                client.send(client.head("GET", "/wallets"))
            yield clients


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    with (
        RawCluster() as one,
        RawCluster() as two,
        RawCluster() as nodes,
        running_redis() as server,
        running_relay(server.port) as relay,
        running_gateway(
            edge=True, REDIS_URL=f"redis://127.0.0.1:{relay.port}/0", TRON_PAYMENT_URL=f"{one.url},{two.url}",
            NODE_MANAGEMENT_URL=nodes.url, CLUSTER_MAX_IN_FLIGHT=str(PLACES), WEB_CONCURRENCY="1",
        ) as gateway,
    ):  # fmt: skip
        stage = Stage(gateway, (one, two), relay, gateway.issue_token("operator@lucid.test"), threading.Event())
        gateway.warm(stage.token, "/wallets")
        time.sleep(SETTLED_SECONDS)
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Iterator[Stage]:
    """The stage without requests; the instances answer nothing until the test says so."""
    whole_stage.go_on.clear()
    for instance in whole_stage.instances:
        instance.forget()
        instance.behaviour = whole_stage.wait
    yield whole_stage
    whole_stage.go_on.set()
    whole_stage.relay.delay = 0.0


def test_a_burst_is_spread_over_the_instances(stage: Stage) -> None:
    with stage.burst(PLACES) as clients:
        wait_until(lambda: sum(stage.received()) == PLACES)
        spread = stage.received()
        stage.go_on.set()

        assert {client.read_answer().status for client in clients} == {200}
    assert spread == [PLACES // 2] * 2


def test_a_burst_takes_no_more_places_than_there_are(stage: Stage) -> None:
    with stage.burst(3 * PLACES) as clients:
        wait_until(lambda: sum(stage.received()) + answered(clients) == 3 * PLACES)
        elsewhere = stage.ask("/nodes").status
        stage.go_on.set()
        found = Counter(client.read_answer().status for client in clients)

    assert (found, elsewhere) == ({200: PLACES, 503: 2 * PLACES}, 200)
    busy = [line for line in stage.gateway.access_lines() if line["status"] == 503]
    assert {(line["plane"], line["cluster"], line["attempts"], line["steps"][-1]) for line in busy} == {
        ("edge", "tron_payment", 0, "bulkhead:cluster_busy")
    }
    counted = f'cluster_refused_total{{cluster="tron_payment",reason="bulkhead"}} {2 * PLACES}'
    wait_until(lambda: counted in stage.ask("/meta/metrics?format=prometheus").body.decode())


def answered(clients: list[RawClient]) -> int:
    """Return how many of the clients have an answer to read."""
    return len(select.select([client.sock for client in clients], [], [], 0)[0])
