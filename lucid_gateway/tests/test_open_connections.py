"""The limit on open connections of an address, over all workers of a real gateway."""

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lucid_gateway.server.open_connections import COLUMNS, OpenConnections, column_of, counts, empty, free_row
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, request_bytes
from testing.http.cluster import OK, RawCluster, Visit
from testing.http.messages import Ended
from testing.waiting import wait_until

LIMIT, OVER = 20, 10
LIVE = request_bytes("GET", "/api/v1/meta/health/live")
HALF = LIVE[:-20]


@pytest.fixture(scope="module")
def capped() -> Iterator[Gateway]:
    with running_gateway(MAX_CONNECTIONS_PER_ADDRESS=str(LIMIT), RATE_LIMIT_ENABLED="false") as running:
        yield running


def connect(port: int, source: str) -> RawClient:
    """Return a connection from a loopback address, after sending half a request on it."""
    connection = RawClient(port, source=source, timeout=10)
    connection.send(HALF)
    return connection


def is_served(connection: RawClient) -> bool:
    """Send the other half of the request, and return whether the answer is 200."""
    connection.send(LIVE[-20:])
    try:
        return connection.read_answer().status == 200
    except (Ended, OSError):
        return False


def asked_once(port: int, source: str) -> bool:
    with connect(port, source) as connection:
        return is_served(connection)


def workers_of(gateway: Gateway) -> list[int]:
    pid = gateway.process.pid
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@contextlib.contextmanager
def crowd(port: int, source: str, size: int) -> Iterator[list[RawClient]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(port, source)) for _ in range(size)]


def served(crowded: list[RawClient]) -> int:
    return sum([is_served(connection) for connection in crowded])


def test_an_address_has_a_maximum_of_connections_and_others_are_served(capped: Gateway) -> None:
    with crowd(capped.port, "127.0.0.2", LIMIT + OVER) as crowded:
        time.sleep(0.5)
        assert asked_once(capped.port, "127.0.0.3")
        # Two workers may accept one connection at the same time.
        assert LIMIT <= served(crowded) <= LIMIT + 1
    wait_until(lambda: asked_once(capped.port, "127.0.0.2"))


def test_refusals_are_counted_and_each_worker_logs_an_address_once(capped: Gateway) -> None:
    with crowd(capped.port, "127.0.0.4", LIMIT + OVER) as crowded:
        assert served(crowded) <= LIMIT + 1
    lines = [json.loads(line) for line in capped.logged().splitlines() if "127.0.0.4" in line]
    named = [line for line in lines if line["event"] == "too many connections of an address"]
    assert 1 <= len(named) <= 2  # by each worker
    assert f"MAX_CONNECTIONS_PER_ADDRESS is {LIMIT}" in named[0]["advice"]
    token = json.loads(capped.manage("issue_token", "--email", "admin@lucid.test", "--json"))["access_token"]
    asking = urllib.request.Request(
        f"{capped.url}/meta/metrics", headers={"Authorization": f"Bearer {token}", "Accept": "text/plain"}
    )
    with urllib.request.urlopen(asking, timeout=10) as answer:
        counted = [line for line in answer.read().decode().splitlines() if 'reason="too_many_connections"' in line]
    assert float(counted[0].split()[-1]) >= OVER - 1


def test_connections_of_a_dead_worker_no_longer_count(capped: Gateway) -> None:
    with crowd(capped.port, "127.0.0.5", LIMIT + OVER):
        for worker in workers_of(capped):
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: asked_once(capped.port, "127.0.0.5"))


def test_trusted_proxies_are_not_limited() -> None:
    with running_gateway(
        MAX_CONNECTIONS_PER_ADDRESS="5", TRUSTED_PROXIES="127.0.0.8/30", RATE_LIMIT_ENABLED="false"
    ) as gateway:
        with crowd(gateway.port, "127.0.0.9", 15) as crowded:
            assert served(crowded) == 15
        with crowd(gateway.port, "127.0.0.12", 15) as crowded:
            assert served(crowded) <= 6


# Both planes. nginx counts connections with a request in progress only, so each of these has one.

HELD, BESIDE = "/wallets/held", "/wallets/beside"


@dataclass(frozen=True)
class Scene:
    """A gateway that a user's token opens, in front of a cluster that holds requests until `go_on` is set."""

    gateway: Gateway
    token: str
    held: RawCluster
    go_on: threading.Event

    def ask(self, source: str, path: str = BESIDE, *fields: str) -> bool:
        """Return whether a request from the address, on a new connection, is answered rather than cut."""
        with RawClient(self.gateway.port, self.token, source=source) as client:
            try:
                return client.ask("GET", path, *fields).status == 200
            except (Ended, OSError):
                return False


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    go_on = threading.Event()

    def behave(visit: Visit) -> None:
        if HELD in visit.request.target:
            go_on.wait(60)
        visit.send(OK)

    with RawCluster() as cluster:
        cluster.behaviour = behave
        settings = {
            "MAX_CONNECTIONS_PER_ADDRESS": str(LIMIT),
            "TRUSTED_PROXIES": "127.0.0.64/26",
            "WEB_CONCURRENCY": "1",
        }
        with running_gateway(TRON_PAYMENT_URL=cluster.url, RATE_LIMIT_ENABLED="false", **settings) as gateway:
            token = gateway.issue_token("demo@lucid.test")
            gateway.warm(token, "/wallets")
            yield Scene(gateway, token, cluster, go_on)


@contextlib.contextmanager
def crowd_of_requests(scene: Scene, source: str, size: int) -> Iterator[None]:
    """Keep so many requests from the address in progress."""
    before = len(scene.held.requests)
    scene.go_on.clear()
    with contextlib.ExitStack() as stack:
        for _ in range(size):
            client = stack.enter_context(RawClient(scene.gateway.port, scene.token, source=source))
            client.send(client.head("GET", HELD))
        wait_until(lambda: len(scene.held.requests) == before + size)
        try:
            yield
        finally:
            scene.go_on.set()


@pytest.mark.planes
def test_one_connection_too_many_is_closed_without_an_answer(scene: Scene) -> None:
    with crowd_of_requests(scene, "127.0.0.20", LIMIT):
        assert not scene.ask("127.0.0.20")
        assert not scene.ask("127.0.0.20", "/users/me")
        assert scene.ask("127.0.0.21")
    wait_until(lambda: scene.ask("127.0.0.20"))


@pytest.mark.planes
def test_connections_of_a_trusted_proxy_have_no_limit(scene: Scene) -> None:
    with crowd_of_requests(scene, "127.0.0.65", LIMIT):
        assert scene.ask("127.0.0.65")
        assert scene.ask("127.0.0.65", BESIDE, "X-Forwarded-For: 192.0.2.1")


@pytest.mark.planes
def test_both_planes_count_and_log_what_they_close(scene: Scene) -> None:
    with crowd_of_requests(scene, "127.0.0.22", LIMIT):
        assert not scene.ask("127.0.0.22")
    wait_until(lambda: "MAX_CONNECTIONS_PER_ADDRESS is" in scene.gateway.logged())
    with RawClient(scene.gateway.port, scene.gateway.issue_token("admin@lucid.test")) as client:
        lines = client.ask("GET", "/meta/metrics", "Accept: text/plain").body.decode().splitlines()
    assert [line for line in lines if 'reason="too_many_connections"' in line and not line.endswith(" 0.0")]


# The table.


@pytest.fixture
def row() -> Iterator[int]:
    row = free_row(())
    yield row
    empty(row)


def test_workers_share_the_limit(row: int) -> None:
    other = free_row({row})
    mine, theirs = OpenConnections(row, 2), OpenConnections(other, 2)
    column = mine.enter(("192.0.2.1", 1))
    assert column is not None
    assert theirs.enter(("192.0.2.1", 2)) == column
    assert mine.enter(("192.0.2.1", 3)) is None
    theirs.leave(column)
    assert mine.enter(("192.0.2.1", 4)) == column
    assert sum(counts[column::COLUMNS]) == 2


def test_an_ipv6_network_counts_as_one_and_a_mapped_address_as_ipv4(row: int) -> None:
    assert column_of("2001:db8::1") == column_of("2001:db8::ffff:2") != column_of("2001:db8:0:1::1")
    assert column_of("::ffff:192.0.2.1") == column_of("192.0.2.1")


@pytest.mark.parametrize(("peer", "limit"), [("", 1), (("192.0.2.1", 1), 0)])
def test_unix_sockets_and_a_limit_of_zero_are_unlimited(row: int, peer: object, limit: int) -> None:
    connections = OpenConnections(row, limit)
    assert [connections.enter(peer) for _ in range(3)] == [-1, -1, -1]
    connections.leave(-1)
