"""The gateway's own calls to a cluster: sent once, read whole, and counted by the breaker."""

import json
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY
from pytest_django.fixtures import Settings

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import BadUpstreamAnswer, ServiceUnavailable, UpstreamTimeout, UpstreamUnreachable
from lucid_gateway.policy.roles import Role
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.instances import states_of
from proxy.choosing.probes import may_probe
from proxy.clusters import cluster_named, configured
from proxy.connection.pool import pool_for
from proxy.forwarding.calls import MAX_ANSWER, CallAnswer, call
from testing.http.cluster import RawCluster, saying, saying_and_closing
from testing.servers import free_port

CALLER = Caller("u-1", Role.USER, "j-1", "f-1", 0)
SHORT = Timeouts(connect=2, read=2, total=2)


@pytest.fixture
def at(settings: Settings) -> Iterator[Callable[..., None]]:
    """Sets the addresses of the session-management cluster."""

    def set_urls(*urls: str) -> None:
        settings.ENV = settings.ENV.model_copy(update={"SESSION_MANAGEMENT_URL": urls})
        configured.cache_clear()

    yield set_urls
    for instance in cluster_named("session_management").instances:
        for connection in pool_for(instance).idle:
            connection.close()
    configured.cache_clear()


@pytest.fixture
def cluster(raw_cluster: RawCluster, at: Callable[..., None]) -> RawCluster:
    """The session-management cluster."""
    at(raw_cluster.url)
    return raw_cluster


def ask(method: str = "DELETE", data: object = None) -> CallAnswer:
    return call(
        "session_management", method, "/api/v1/sessions/1", caller=CALLER, request_id="r-1", data=data, timeouts=SHORT
    )


def answer_with(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_a_call_names_the_caller_and_returns_the_answer(cluster: RawCluster) -> None:
    cluster.behaviour = saying(answer_with(b"201 Created", b'{"a": 1}'))
    assert ask("POST", {"x": "y"}) == CallAnswer(201, {"a": 1})
    fields = dict(cluster.request.fields)
    assert (fields["x-user-id"], fields["x-request-id"]) == ("u-1", "r-1")
    assert json.loads(cluster.request.body) == {"x": "y"}


def test_connections_are_reused(cluster: RawCluster) -> None:
    for _ in range(3):
        assert ask().succeeded
    assert cluster.accepted == 1


@pytest.mark.parametrize(("status", "body"), [(b"404 No", b"plain"), (b"500 Oops", b"")])
def test_any_answer_of_a_cluster_is_returned(cluster: RawCluster, status: bytes, body: bytes) -> None:
    cluster.behaviour = saying(answer_with(status, body))
    assert ask() == CallAnswer(int(status[:3]), None)


def test_too_large_an_answer_is_not_read_to_its_end(cluster: RawCluster) -> None:
    cluster.behaviour = saying(answer_with(b"200 OK", bytes(MAX_ANSWER + 1)))
    with pytest.raises(BadUpstreamAnswer):
        ask()


@pytest.mark.parametrize("ending", [saying_and_closing(), saying_and_closing(answer_with(b"200 OK", b"12345")[:-2])])
def test_a_truncated_answer_is_an_error_and_is_not_retried(cluster: RawCluster, ending: object) -> None:
    cluster.behaviour = ending  # type: ignore[assignment]
    with pytest.raises(BadUpstreamAnswer):
        ask("POST", {})
    assert len(cluster.requests) == 1


def test_a_missing_answer_counts_as_a_failure_and_frees_its_place(cluster: RawCluster) -> None:
    cluster.behaviour = saying()
    with pytest.raises(UpstreamTimeout):
        ask()
    (state,) = states_of(cluster_named("session_management"))
    assert (state.failures, state.in_flight) == (1, 0)


def test_an_instance_probed_by_another_worker_is_skipped(cluster: RawCluster, at: Callable[..., None]) -> None:
    at(f"http://127.0.0.1:{free_port()}", cluster.url)
    probed, healthy = states_of(cluster_named("session_management"))
    probed.breaker.open(0)
    assert may_probe(probed.name)
    assert healthy.begin()  # now it has more requests in progress
    assert ask().status == 200


def test_an_instance_without_a_listener_is_unreachable(at: Callable[..., None]) -> None:
    at(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UpstreamUnreachable):
        ask()


def failed_calls() -> float:
    labels = {"cluster": "session_management", "kind": "call"}
    return REGISTRY.get_sample_value("lucid_own_calls_failed_total", labels) or 0


@pytest.mark.parametrize(
    ("status", "counted"), [(b"204 No Content", 0), (b"404 Not Found", 0), (b"502 Bad Gateway", 1)]
)
def test_a_call_that_the_cluster_fails_is_counted(cluster: RawCluster, status: bytes, counted: int) -> None:
    cluster.behaviour = saying(answer_with(status, b""))
    before = failed_calls()

    ask()

    assert failed_calls() == before + counted


def test_a_call_without_an_answer_is_counted(at: Callable[..., None]) -> None:
    at(f"http://127.0.0.1:{free_port()}")
    before = failed_calls()

    with pytest.raises(UpstreamUnreachable):
        ask()

    assert failed_calls() == before + 1


def test_a_call_is_refused_when_the_bulkhead_of_its_cluster_is_full(cluster: RawCluster) -> None:
    bulkhead = bulkhead_of("session_management")
    bulkhead.taken += bulkhead.places
    try:
        with pytest.raises(ServiceUnavailable):
            ask()
    finally:
        bulkhead.taken -= bulkhead.places

    assert cluster.requests == []
