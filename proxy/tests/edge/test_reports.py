"""What the edge has done is counted, kept and judged by the gateway."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from lucid_gateway.policy.keys import edge_in_flight
from proxy.tests.edge.conftest import Stage, printed
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import Behaviour, RawCluster, saying, saying_and_closing, saying_and_resetting
from testing.http.messages import Cut, Message
from testing.servers import free_port
from testing.waiting import wait_until


@pytest.fixture(scope="module")
def whole_scene() -> Iterator[Stage]:
    """An edge with one worker of the gateway, dead instances of the chain, and a low limit for its queries."""
    settings = {
        "WEB_CONCURRENCY": "1", "EXPLORER_SAMPLE_PERCENT": "0", "CLUSTER_BREAKER_ENABLED": "true",
        "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": "1", "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE": "0",
        "CLIENT_TIMEOUT_SECONDS": "3",
    }  # fmt: skip
    with RawCluster() as wallets, RawCluster() as chain:
        urls = {
            "TRON_PAYMENT_URL": wallets.url,
            "BLOCKCHAIN_CORE_URL": f"http://127.0.0.1:{free_port()},{chain.url}",
        }
        with running_gateway(edge=True, **urls, **settings) as gateway:
            yield Stage(gateway, wallets, chain, gateway.issue_token("operator@lucid.test"))


@pytest.fixture
def scene(whole_scene: Stage) -> Stage:
    whole_scene.wallets.forget()
    whole_scene.chain.forget()
    whole_scene.gateway.warm(whole_scene.token, "/wallets")
    whole_scene.wallets.forget()
    return whole_scene


def value(scene: Stage, name: str, **labels: str) -> float:
    """Return the sum of the samples in the metrics with these labels."""
    text = scene.ask("/meta/metrics?format=prometheus").body.decode()
    samples = [sample for family in parse_text(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def kept(scene: Stage, request_id: str) -> Any:
    """Return the request as the explorer has it, once it does."""
    wanted = ("plane", "status", "reason", "cluster", "details", "address", "credential_kind")
    code = f"""
import json
from lucid_gateway.explorer.models import KeptRequest
rows = KeptRequest.objects.filter(request_id={request_id!r}).values{wanted!r}
print(json.dumps(list(rows)))
"""
    return wait_until(lambda: printed(scene.gateway, code), every=0.5)[0]


def in_flight(scene: Stage) -> int:
    """Return how many requests to the wallets' cluster are in progress at the edge."""
    redis = scene.gateway.redis()
    (name,) = redis.keys(edge_in_flight("*"))
    workers: list[bytes] = redis.hvals(name.decode())
    return sum(json.loads(worker)["clusters"].get("tron_payment", 0) for worker in workers)


def test_requests_at_the_edge_are_in_the_metrics(scene: Stage) -> None:
    labels = {"plane": "edge", "method": "GET", "route": "api/v1/wallets/<path:rest>"}
    upstream = {"plane": "edge", "cluster": "tron_payment", "outcome": "2xx"}
    sent = value(scene, "lucid_upstream_requests_total", **upstream)

    for number in range(7):
        assert scene.ask(f"/wallets/{number}").status == 200

    wait_until(lambda: value(scene, "lucid_requests_total", **labels, status="200") == 7)
    assert value(scene, "lucid_request_duration_seconds_count", **labels) == 7
    assert value(scene, "lucid_request_duration_seconds_bucket", **labels, le="+Inf") == 7
    assert value(scene, "lucid_upstream_requests_total", **upstream) >= sent + 7
    assert json.loads(scene.ask("/meta/metrics").body)["metrics"]["requests_per_second"] > 0


STATE = """
import json
from dataclasses import asdict
from lucid_gateway.kernel.gateway_name import gateway_name
from proxy.edge.state import read_edges
print(json.dumps([asdict(edge) for edge in read_edges([gateway_name()])]))
"""


def test_the_gateway_keeps_what_its_edge_says_of_itself(scene: Stage) -> None:
    (found,) = wait_until(lambda: printed(scene.gateway, STATE))

    assert found["snapshot_age"] < 10
    assert time.time() - found["at"] < 60


def test_a_refusal_by_a_limit_reaches_metrics_and_explorer(scene: Stage) -> None:
    def refused_at_the_edge() -> Message | None:
        answer = scene.ask("/chain/blocks")
        return answer if answer.status == 429 and scene.plane(answer) == "edge" else None

    answer = wait_until(refused_at_the_edge)

    assert answer is not None
    assert answer.code == "3001"
    wait_until(lambda: value(scene, "lucid_rate_limited_total", plane="edge", tier="blockchain_query") > 0)
    row = kept(scene, answer.header("X-Request-ID"))
    assert (row["plane"], row["status"], row["reason"]) == ("edge", 429, "tier_exhausted")
    assert row["details"]["limits"]["tier"] == "blockchain_query"
    assert row["details"]["steps"][-1]["reason"] == "tier_exhausted"
    assert (row["credential_kind"], row["address"]) == ("token", "127.0.0.1")


def test_a_body_that_stops_ends_the_connection_and_gives_its_place_back(scene: Stage) -> None:
    with RawClient(scene.gateway.port, scene.token) as client:
        client.send(client.head("POST", "/wallets/stopped", "Content-Length: 100") + b"half")
        assert client.is_closed()

    paths = wait_until(lambda: [line for line in scene.gateway.access_lines() if line["path"].endswith("/stopped")])
    assert [(line["plane"], line["status"], line["outcome"]) for line in paths] == [("edge", 408, "client_left")]
    wait_until(lambda: in_flight(scene) == 0)


@pytest.mark.parametrize("behaviour", [saying_and_closing(), saying_and_resetting()], ids=["closes", "resets"])
def test_an_instance_without_an_answer_gets_the_request_once(scene: Stage, behaviour: Behaviour) -> None:
    scene.wallets.behaviour = behaviour

    answer = scene.ask("/wallets/x", method="POST", body=b"x")

    assert (answer.status, answer.code, scene.plane(answer)) == (502, "5003", "edge")
    assert len(scene.wallets.requests) == 1
    row = kept(scene, answer.header("X-Request-ID"))
    assert (row["reason"], row["cluster"]) == ("instance_no_answer", "tron_payment")
    assert [attempt["outcome"] for attempt in row["details"]["attempts"]] == ["instance_no_answer"]


def test_an_instance_that_refuses_costs_the_client_nothing(scene: Stage) -> None:
    answers = [scene.ask("/chain/height", method=method) for method in ("GET", "HEAD") for _ in range(6)]

    assert {answer.status for answer in answers} == {200}
    wait_until(lambda: value(scene, "lucid_breaker_open", cluster="blockchain_core") == 1)


def test_a_truncated_answer_counts_as_cut_by_the_cluster(scene: Stage) -> None:
    scene.wallets.behaviour = saying_and_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")

    with pytest.raises(Cut):
        scene.ask("/wallets/cut")

    wait_until(lambda: value(scene, "lucid_answers_cut_total", plane="edge", outcome="upstream_cut") > 0)


def test_failures_at_the_edge_open_the_breakers_of_the_gateway(scene: Stage) -> None:
    scene.wallets.behaviour = saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    def is_open_after_more() -> bool:
        for _ in range(10):
            assert scene.ask("/wallets/busy").status == 503
        return value(scene, "lucid_breaker_open", cluster="tron_payment") == 1

    wait_until(is_open_after_more)
    # The edge reads a second later that the instance is no longer usable, and the gateway refuses.
    wait_until(lambda: b"LUCID_ERR_5007" in scene.ask("/wallets/busy").body)
