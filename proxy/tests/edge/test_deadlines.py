"""How long the answer of a cluster may take behind the edge."""

import time
from collections.abc import Iterator

import pytest

from proxy.tests.edge.conftest import Stage
from proxy.tests.edge.test_failing_instances import shorten_timeouts
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster, Visit
from testing.http.messages import Cut
from testing.waiting import wait_until

TOTAL_SECONDS = 1
LONG = 3 * TOTAL_SECONDS
MEGABYTE = b"x" * 1_000_000


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    """An edge whose clusters have TOTAL_SECONDS for a whole answer."""
    with (
        RawCluster() as wallets,
        running_gateway(
            edge=True, WEB_CONCURRENCY="1", RATE_LIMIT_ENABLED="false", TRON_PAYMENT_URL=wallets.url
        ) as gateway,
    ):
        shorten_timeouts(gateway, total=TOTAL_SECONDS)
        yield Stage(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"))


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The stage; the edge knows the user."""
    whole_stage.wallets.forget()
    whole_stage.gateway.warm(whole_stage.token, "/wallets")
    return whole_stage


def drip(visit: Visit, head: bytes, piece: bytes, seconds: float) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        visit.send(piece)
        time.sleep(0.05)


def outcome(stage: Stage, request_id: str) -> str:
    (line,) = wait_until(lambda: stage.lines(request_id))
    assert line["plane"] == "edge"
    return str(line["outcome"])


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Content-Length: 100000\r\n", b"x"),
        (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n"),
        (b"Connection: close\r\n", b"x"),
    ],
)
def test_an_answer_that_takes_longer_than_its_route_allows_is_cut(stage: Stage, head: bytes, piece: bytes) -> None:
    stage.wallets.behaviour = lambda visit: drip(visit, head, piece, 60)
    began = time.monotonic()
    with pytest.raises(Cut) as cut:
        stage.ask()
    assert time.monotonic() - began >= TOTAL_SECONDS
    assert outcome(stage, cut.value.message.header("X-Request-ID")) == "upstream_cut"


def test_an_event_stream_may_last(stage: Stage) -> None:
    def stream(visit: Visit) -> None:
        drip(visit, b"Content-Type: Text/Event-Stream\r\nTransfer-Encoding: chunked\r\n", b"1\r\nx\r\n", LONG)
        visit.send(b"0\r\n\r\n")

    stage.wallets.behaviour = stream
    answer = stage.ask()
    assert answer.status == 200
    assert outcome(stage, answer.header("X-Request-ID")) == "complete"


def test_the_time_of_a_slow_client_is_not_the_clusters(stage: Stage) -> None:
    def long(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(50):
            visit.send(MEGABYTE)

    stage.wallets.behaviour = long
    with RawClient(stage.gateway.port, stage.token) as client:
        client.send(client.head("GET", "/wallets"))
        time.sleep(LONG)
        answer = client.read_answer("GET")
    assert (answer.status, len(answer.body)) == (200, 50_000_000)
    assert outcome(stage, answer.header("X-Request-ID")) == "complete"
