"""The instance for a request, retries on another one, and requests that are never sent twice."""

import io
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import (
    BadRequest,
    BadUpstreamAnswer,
    RequestTooLarge,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from lucid_gateway.policy.roles import Role
from lucid_gateway.policy.routes import Route, Timeouts
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.instances import states_of
from proxy.choosing.probes import may_probe
from proxy.choosing.retries import budget_of
from proxy.clusters import Cluster, Instance
from proxy.connection.pool import Pool
from proxy.connection.upstream import Connection, NoAnswer
from proxy.forwarding.forwarder import Forwarded, forward
from proxy.tests.conftest import SecondStage
from testing.http.cluster import OK, Behaviour, RawCluster, Visit, saying, saying_and_closing, saying_and_resetting
from testing.servers import free_port
from testing.waiting import wait_until

pytestmark = pytest.mark.planes

ENOUGH = Timeouts(connect=30, read=30, total=60)
SHORT = replace(ENOUGH, total=0.8)
CALLER = Caller("u-1", Role.USER, "j-1", "f-1", 0)


@pytest.fixture
def other_cluster() -> Iterator[RawCluster]:
    with RawCluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[Instance, Pool]]:
    """Pools for one test, which leaves neither connections to stopped servers nor state of the clusters behind."""
    for cached in (states_of, bulkhead_of, budget_of):
        cached.cache_clear()
    pools: dict[Instance, Pool] = {}
    monkeypatch.setattr(
        "proxy.forwarding.forwarder.pool_for", lambda instance: pools.setdefault(instance, Pool(instance))
    )
    yield pools
    for connection in [connection for pool in pools.values() for connection in pool.idle]:
        connection.close()


def dead() -> Instance:
    return Instance("http", "127.0.0.1", free_port())


def of(*instances: Instance) -> Cluster:
    return Cluster("some_cluster", "some-service", "SOME_URL", instances=instances)


def a_request(method: str = "GET", body: bytes = b"") -> HttpRequest:
    request = RequestFactory().generic(method, "/", body, headers={"Host": "gateway.test"})
    record = record_of(request)
    record.request_id, record.client_address = "request-1", "192.0.2.1"
    return request


def send(
    cluster: Cluster,
    method: str = "GET",
    body: bytes = b"",
    *,
    request: HttpRequest | None = None,
    limit: int = 1000,
    timeouts: Timeouts = ENOUGH,
) -> Forwarded:
    """Forward a request and return its answer."""
    route = Route("x", (method,), cluster.name, "/x", "user:read", timeouts=timeouts, body_limit=limit)
    request = request or a_request(method, body)
    return forward(request, route, cluster, caller=CALLER, target="/x?y")


def whole(forwarded: Forwarded) -> bytes:
    with closing(forwarded.body):
        return b"".join(forwarded.body)


def test_requests_take_turns(raw_cluster: RawCluster, other_cluster: RawCluster) -> None:
    cluster = of(raw_cluster.instance, other_cluster.instance)
    for _ in range(6):
        assert whole(send(cluster)) == b"ok"
    assert [len(raw_cluster.requests), len(other_cluster.requests)] == [3, 3]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_instance_that_refuses_connections_is_skipped(raw_cluster: RawCluster, method: str) -> None:
    cluster = of(dead(), raw_cluster.instance, dead())
    for _ in range(3):
        assert whole(send(cluster, method, b"12345")) == b"ok"
    assert [request.body for request in raw_cluster.requests] == [b"12345"] * 3


def test_each_attempt_is_a_step_of_the_decision(raw_cluster: RawCluster) -> None:
    request = a_request()
    whole(send(of(dead(), raw_cluster.instance), request=request))
    record = record_of(request)

    assert record.logged_steps() == ["maintenance", "bulkhead", "attempt:instance_unreachable", "attempt"]
    assert [attempt.outcome for attempt in record.attempts] == ["instance_unreachable", "answered"]


def test_an_instance_that_refuses_connections_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Instance] = []
    take = Pool.take

    def counted(pool: Pool, timeouts: Timeouts, **more: Any) -> Connection:
        asked.append(pool.instance)
        return take(pool, timeouts, **more)

    monkeypatch.setattr(Pool, "take", counted)
    with pytest.raises(UpstreamUnreachable):
        send(of(dead()))
    assert len(asked) == 1


def test_instances_probed_by_another_worker_cost_no_attempt(raw_cluster: RawCluster) -> None:
    cluster = of(dead(), dead(), dead(), raw_cluster.instance)
    *probed, healthy = states_of(cluster)
    for state in probed:
        state.breaker.open(0)
        assert may_probe(state.name)
    assert healthy.begin()  # now it has more requests in progress than those
    assert whole(send(cluster)) == b"ok"


def test_a_cluster_whose_instances_all_refuse_is_unreachable() -> None:
    with pytest.raises(UpstreamUnreachable):
        send(of(dead(), dead()))


@pytest.mark.parametrize("ending", [saying_and_closing(), saying_and_resetting()])
def test_a_get_without_an_answer_goes_to_another_instance(
    raw_cluster: RawCluster, other_cluster: RawCluster, ending: Behaviour
) -> None:
    raw_cluster.behaviour = ending
    cluster = of(raw_cluster.instance, other_cluster.instance)
    assert [whole(send(cluster)) for _ in range(2)] == [b"ok"] * 2
    assert [len(raw_cluster.requests), len(other_cluster.requests)] == [2, 2]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_without_an_answer_are_sent_once(
    raw_cluster: RawCluster, other_cluster: RawCluster, method: str
) -> None:
    raw_cluster.behaviour = other_cluster.behaviour = saying_and_resetting()
    with pytest.raises(NoAnswer):
        send(of(raw_cluster.instance, other_cluster.instance), method)
    assert len(raw_cluster.requests) + len(other_cluster.requests) == 1


def close_once(visit: Visit) -> None:
    """Fail the second request of the first connection, like a server that was about to close it."""
    if visit.number == 1 and visit.request.target == "/x?y" and getattr(visit, "served", False):
        visit.reset()
    else:
        visit.served = True  # type: ignore[attr-defined]
        visit.send(OK)


def test_a_get_on_a_stale_connection_is_sent_again_on_a_fresh_one(raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = close_once
    for _ in range(2):
        assert whole(send(of(raw_cluster.instance))) == b"ok"
    assert [request.connection for request in raw_cluster.requests] == [1, 1, 2]


def test_a_post_on_a_stale_connection_is_not_sent_again(raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = close_once
    assert whole(send(of(raw_cluster.instance), "POST")) == b"ok"
    with pytest.raises(NoAnswer):
        send(of(raw_cluster.instance), "POST")
    assert len(raw_cluster.requests) == 2


def test_a_post_on_a_connection_known_to_be_closed_goes_out_on_another(raw_cluster: RawCluster) -> None:
    assert whole(send(of(raw_cluster.instance), "POST", b"1")) == b"ok"
    raw_cluster.hang_up()
    assert whole(send(of(raw_cluster.instance), "POST", b"2")) == b"ok"
    assert [request.body for request in raw_cluster.requests] == [b"1", b"2"]


def test_a_timeout_is_not_retried(raw_cluster: RawCluster, other_cluster: RawCluster) -> None:
    raw_cluster.behaviour = other_cluster.behaviour = saying()
    with pytest.raises(UpstreamTimeout):
        send(of(raw_cluster.instance, other_cluster.instance), timeouts=SHORT)
    assert len(raw_cluster.requests) + len(other_cluster.requests) == 1


def test_a_bad_answer_is_not_retried(raw_cluster: RawCluster, other_cluster: RawCluster) -> None:
    raw_cluster.behaviour = other_cluster.behaviour = saying(b"nonsense\r\n\r\n")
    with pytest.raises(BadUpstreamAnswer):
        send(of(raw_cluster.instance, other_cluster.instance))
    assert len(raw_cluster.requests) + len(other_cluster.requests) == 1


@pytest.mark.parametrize("status", [b"500 Oops", b"503 Busy", b"404 No"])
def test_an_error_of_the_cluster_is_relayed_and_not_retried(raw_cluster: RawCluster, status: bytes) -> None:
    raw_cluster.behaviour = saying(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nno")
    assert whole(send(of(raw_cluster.instance, dead()))) == b"no"
    assert len(raw_cluster.requests) == 1


def test_a_body_over_the_limit_causes_no_connection(raw_cluster: RawCluster) -> None:
    with pytest.raises(RequestTooLarge) as caught:
        send(of(raw_cluster.instance), "POST", b"x" * 1001)
    assert caught.value.details == {"limit_bytes": 1000}
    assert raw_cluster.accepted == 0


def chunked(source: object) -> HttpRequest:
    request = a_request("POST")
    request.META |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": source}
    return request


def test_a_body_without_a_length_is_aborted_at_the_limit(raw_cluster: RawCluster) -> None:
    with pytest.raises(RequestTooLarge):
        send(of(raw_cluster.instance), "POST", request=chunked(io.BytesIO(b"x" * 200_000)), limit=150_000)
    wait_until(lambda: raw_cluster.broken)
    assert raw_cluster.requests == []


class Slow(io.BytesIO):
    """A body that arrives slowly."""

    def read(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.3)
        return super().read(min(size or 1, 1))


class Broken(io.BytesIO):
    """A client that disconnects in the middle of its body."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(5)
        if not data:
            raise ConnectionResetError
        return data


def test_an_upload_may_take_longer_than_the_total_timeout(raw_cluster: RawCluster) -> None:
    def answer_late(visit: Visit) -> None:
        time.sleep(0.1)
        visit.send(OK)

    raw_cluster.behaviour = answer_late
    assert whole(send(of(raw_cluster.instance), "POST", request=chunked(Slow(b"123")), timeouts=SHORT)) == b"ok"
    assert raw_cluster.request.body == b"123"


def test_a_client_that_leaves_is_a_bad_request_and_completes_nothing(raw_cluster: RawCluster) -> None:
    with pytest.raises(BadRequest):
        send(of(raw_cluster.instance), "POST", request=chunked(Broken(b"1234567")))
    wait_until(lambda: raw_cluster.broken)
    assert raw_cluster.requests == []


@pytest.mark.parametrize("ending", [saying_and_closing, saying_and_resetting])
def test_an_early_answer_is_read_when_the_cluster_stops_reading(
    raw_cluster: RawCluster, pools: dict[Instance, Pool], ending: type
) -> None:
    raw_cluster.on_head = ending(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    forwarded = send(of(raw_cluster.instance), "POST", b"x" * 5_000_000, limit=5_000_000)
    assert (forwarded.answer.status, whole(forwarded)) == (413, b"no")
    assert not pools[raw_cluster.instance].idle


def test_an_early_answer_is_read_after_a_long_upload(raw_cluster: RawCluster) -> None:
    raw_cluster.on_head = saying_and_closing(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
    forwarded = send(of(raw_cluster.instance), "POST", request=chunked(Slow(b"12345")), timeouts=SHORT)
    assert (forwarded.answer.status, whole(forwarded)) == (413, b"no")


def drip(visit: Visit) -> None:
    for _ in range(12):
        time.sleep(0.1)
        visit.send(b"1\r\nx\r\n")
    visit.send(b"0\r\n\r\n")


def dripping(content_type: bytes) -> Behaviour:
    def behave(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        drip(visit)

    return behave


@pytest.mark.parametrize("content_type", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
def test_an_event_stream_has_no_total_timeout(raw_cluster: RawCluster, content_type: bytes) -> None:
    raw_cluster.behaviour = dripping(content_type)
    assert whole(send(of(raw_cluster.instance), timeouts=SHORT)) == b"x" * 12


def test_any_other_answer_has_a_total_timeout(raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = dripping(b"text/plain")
    with pytest.raises(ConnectionResetError):
        whole(send(of(raw_cluster.instance), timeouts=SHORT))


def test_the_exchange_is_recorded_for_the_log(raw_cluster: RawCluster) -> None:
    request = a_request()
    route = Route("x", ("GET",), "some_cluster", "/x", "user:read", timeouts=ENOUGH)
    forward(request, route, of(raw_cluster.instance), caller=CALLER, target="/x").body.close()
    record = record_of(request)
    assert record.upstream_status == 200
    assert record.upstream_ms is not None
    (attempt,) = record.attempts
    assert (attempt.instance, attempt.outcome) == (raw_cluster.url, "answered")
    assert attempt.connect_ms is not None
    assert attempt.send_ms is not None
    assert attempt.first_byte_ms is not None
    assert attempt.send_ms <= attempt.first_byte_ms <= record.upstream_ms


def test_the_request_is_written_as_one_head(raw_cluster: RawCluster) -> None:
    whole(send(of(raw_cluster.instance)))
    assert raw_cluster.request.start == "GET /x?y HTTP/1.1"
    assert raw_cluster.request.fields[0] == ("host", f"127.0.0.1:{raw_cluster.port}")


def test_reading_a_body_to_its_end_returns_the_connection(raw_cluster: RawCluster, pools: dict[Instance, Pool]) -> None:
    forwarded = send(of(raw_cluster.instance))
    whole(forwarded)
    forwarded.body.close()
    assert len(pools[raw_cluster.instance].idle) == 1


def test_an_abandoned_body_closes_its_connection(raw_cluster: RawCluster, pools: dict[Instance, Pool]) -> None:
    raw_cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    forwarded = send(of(raw_cluster.instance))
    assert next(forwarded.body) == b"hello"
    forwarded.body.close()
    assert raw_cluster.visits[0].over.wait(5)
    assert not pools[raw_cluster.instance].idle


# Through a real gateway: one dead and two live instances behind /chain.


def test_a_gateway_spreads_requests_and_skips_a_dead_instance(second_stage: SecondStage) -> None:
    with second_stage.connect() as client:
        assert [client.ask("GET", "/chain/info").status for _ in range(9)] == [200] * 9
    assert min(len(cluster.requests) for cluster in second_stage.instances) >= 3


def test_a_gateway_tries_another_instance_when_one_hangs_up(second_stage: SecondStage) -> None:
    failing, living = second_stage.instances
    failing.behaviour = saying_and_resetting()
    with second_stage.connect() as client:
        assert [client.ask("GET", "/chain/info").status for _ in range(6)] == [200] * 6
    assert len(living.requests) == 6
    assert failing.requests


def test_a_gateway_sends_a_post_to_one_instance_only(second_stage: SecondStage) -> None:
    for cluster in second_stage.instances:
        cluster.behaviour = saying_and_resetting()
    with second_stage.connect(second_stage.operator) as client:
        answer = client.ask("POST", "/chain/transactions", body=b"{}")
    assert (answer.status, answer.code) == (502, "5003")
    assert sum(len(cluster.requests) for cluster in second_stage.instances) == 1
