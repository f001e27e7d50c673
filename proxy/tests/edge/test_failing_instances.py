"""Instances that fail behind the edge: which requests are sent again, and what clients get."""

import contextlib
import json
import signal
from collections.abc import Iterator

import pytest

from proxy.tests.edge.conftest import Stage
from testing.gateway import Gateway, running_gateway
from testing.hammer import front_workers
from testing.http.cluster import RawCluster, Visit, saying, saying_and_closing
from testing.http.messages import Message
from testing.waiting import wait_until

AGAIN = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
READ_SECONDS = 1


@contextlib.contextmanager
def running_stage(*others: str) -> Iterator[Stage]:
    """Run an edge in front of an instance, and of others, that have a second for an answer."""
    with RawCluster() as wallets:
        urls = {"TRON_PAYMENT_URL": ",".join([wallets.url, *others])}
        with running_gateway(edge=True, WEB_CONCURRENCY="1", RATE_LIMIT_ENABLED="false", **urls) as gateway:
            stage = Stage(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"))
            shorten_timeouts(gateway, read=READ_SECONDS)
            gateway.warm(stage.token, "/wallets")
            wallets.forget()
            yield stage


def shorten_timeouts(gateway: Gateway, **seconds: float) -> None:
    """Give the instances these time limits at the edge, such as `read` or `total`, on all routes."""
    assert gateway.edge_log is not None
    path = gateway.edge_log.parent / "policy.json"
    policy = json.loads(path.read_text())
    for route in policy["routes"]:
        route["timeouts"] |= seconds
    path.write_text(json.dumps(policy))
    reload_edge(gateway)


def reload_edge(gateway: Gateway) -> None:
    """Let nginx read its files again; return when only workers that have done so are left."""
    assert gateway.nginx is not None
    before = set(front_workers(gateway))
    gateway.nginx.send_signal(signal.SIGHUP)
    wait_until(lambda: (now := front_workers(gateway)) and not before.intersection(now))


@pytest.fixture(scope="module")
def whole_stage() -> Iterator[Stage]:
    with running_stage() as stage:
        yield stage


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The stage; its only instance has seen nothing yet."""
    whole_stage.wallets.forget()
    wait_until(lambda: decided(whole_stage, whole_stage.ask()), every=0.1)  # the breaker is closed
    whole_stage.wallets.forget()
    return whole_stage


def decided(stage: Stage, answer: Message) -> bool:
    """Return whether the edge forwarded the request."""
    return answer.status == 200 and stage.plane(answer) == "edge"


def facts(stage: Stage, answer: Message) -> tuple[int, str, str, int]:
    """Return status and code of the answer, and the reason and the number of attempts in the log."""
    (line,) = stage.lines(answer.header("X-Request-ID"))
    assert line["plane"] == "edge"
    return answer.status, answer.code, line["reason"], line["attempts"]


def failing_once(cluster: RawCluster) -> None:
    def behave(visit: Visit) -> None:
        if len(cluster.requests) == 1:
            saying_and_closing()(visit)
        AGAIN(visit)

    cluster.behaviour = behave


def test_a_connection_that_ends_without_an_answer_is_tried_again_at_the_only_instance(stage: Stage) -> None:
    failing_once(stage.wallets)

    answer = stage.ask("/wallets/1")

    assert (answer.status, answer.body) == (200, b"again")
    assert len(stage.wallets.requests) == 2


def test_a_connection_that_ends_twice_without_an_answer_is_502(stage: Stage) -> None:
    stage.wallets.behaviour = saying_and_closing()

    assert facts(stage, stage.ask("/wallets/1")) == (502, "5003", "instance_no_answer", 2)
    assert len(stage.wallets.requests) == 2


def test_what_may_have_changed_something_is_sent_once(stage: Stage) -> None:
    failing_once(stage.wallets)

    answer = stage.ask("/wallets", method="POST", body=b"{}")

    assert facts(stage, answer) == (502, "5003", "instance_no_answer", 1)
    assert len(stage.wallets.requests) == 1


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"{}")])
def test_a_silent_instance_is_asked_once(stage: Stage, method: str, body: bytes | None) -> None:
    stage.wallets.behaviour = saying()

    answer = stage.ask("/wallets", method=method, body=body)

    assert facts(stage, answer) == (504, "5006", "instance_timeout", 1)
    assert len(stage.wallets.requests) == 1


def test_a_silent_instance_costs_no_other_one_a_request() -> None:
    with RawCluster() as other, running_stage(other.url) as stage:
        other.forget()
        stage.wallets.behaviour = other.behaviour = saying()

        assert facts(stage, stage.ask("/wallets/1"))[:2] == (504, "5006")
        assert len(stage.wallets.requests) + len(other.requests) == 1
