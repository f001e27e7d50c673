"""Requests of the same moment, of which Redis has answered none yet, are spread and limited as others are."""

import contextlib
import select
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ratelimit.tests.relay import Relay, running_relay
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit
from testing.servers import running_redis
from testing.waiting import wait_until

PLACES = 12


@dataclass
class Stage:
    """A gateway and its edge, with two instances of a cluster that answer when they may, and a slow Redis."""

    gateway: Gateway
    instances: tuple[RawCluster, RawCluster]
    relay: Relay
    token: str
    go_on: threading.Event

    def received(self) -> list[int]:
        """Return how many requests each instance has received."""
        return [len(instance.requests) for instance in self.instances]

    @contextlib.contextmanager
    def burst(self, count: int) -> Iterator[list[RawClient]]:
        """Send so many requests before Redis answers the first one."""
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(RawClient(self.gateway.port, self.token)) for _ in range(count)]
            for client in clients:
                client.send(client.head("GET", "/wallets"))
            yield clients


@pytest.fixture
def stage() -> Iterator[Stage]:
    go_on = threading.Event()

    def wait(visit: Visit) -> None:
        go_on.wait(60)
        visit.send(OK)

    with (
        RawCluster() as one,
        RawCluster() as two,
        running_redis() as server,
        running_relay(server.port) as relay,
        running_gateway(
            edge=True, REDIS_URL=f"redis://127.0.0.1:{relay.port}/0", TRON_PAYMENT_URL=f"{one.url},{two.url}",
            CLUSTER_MAX_IN_FLIGHT=str(PLACES), WEB_CONCURRENCY="1",
        ) as gateway,
    ):  # fmt: skip
        stage = Stage(gateway, (one, two), relay, gateway.issue_token("demo@lucid.test"), go_on)
        gateway.warm(stage.token, "/wallets")
        for instance in stage.instances:
            instance.forget()
            instance.behaviour = wait
        relay.delay = 0.1
        yield stage
        go_on.set()


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
        admitted = sum(stage.received())
        stage.go_on.set()
        found = Counter(client.read_answer().status for client in clients)

    # The gateway learns within a second how many places the edge has taken; until then it has as many itself.
    assert PLACES <= admitted <= 2 * PLACES
    assert found == {200: admitted, 503: 3 * PLACES - admitted}


def answered(clients: list[RawClient]) -> int:
    """Return how many of the clients have an answer to read."""
    return len(select.select([client.sock for client in clients], [], [], 0)[0])
