"""GET /meta/metrics of real gateways with two workers: exact counts, figures of the last minute, safe labels."""

import fcntl
import json
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from conftest import ApiClient, error_code
from testing import hammer
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, ask, request_bytes
from testing.http.cluster import RawCluster, Visit, saying_and_closing, saying_and_resetting
from testing.http.messages import Message
from testing.parallel import in_parallel
from testing.servers import ROOT, free_port, running_redis
from testing.waiting import wait_until

METRICS, WALLET = "/meta/metrics", "/wallets/1"
ROUTE = "api/v1/wallets/<path:rest>"
WALLETS = {"method": "GET", "route": ROUTE}
INFO = {"method": "GET", "route": "api/v1/meta/info", "status": "200"}
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Scene:
    """A gateway, its wallets cluster, and the tokens of a plain user and of one with the permission system:monitor."""

    gateway: Gateway
    cluster: RawCluster
    user: str
    operator: str

    def get(self, path: str, *fields: str, token: str | None = None) -> Message:
        """Send a request as the operator, or with another token."""
        token = self.operator if token is None else token
        return ask(self.gateway.port, hammer.api("GET", path, None, *fields, token=token))

    def figures(self) -> dict[str, Any]:
        """Return the figures of the JSON answer."""
        figures: dict[str, Any] = json.loads(self.get(METRICS).body)["metrics"]
        return figures

    def text(self) -> str:
        return self.get(f"{METRICS}?format=prometheus").body.decode()

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's value, or 0 without the sample."""
        samples = [sample for family in parse_text(self.text()) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == name and without_plane(sample.labels) == labels)

    def rises(self, name: str, by: float, action: Callable[[], object], **labels: str) -> None:
        """Check that the action increases the sample by `by`."""
        before = self.value(name, **labels)
        action()
        wait_until(lambda: self.value(name, **labels) - before == by)


def without_plane(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != "plane"}


def folder_of(gateway: Gateway) -> Path | None:
    """Return the folder whose files the gateway's workers have mapped into memory."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in hammer.workers(gateway))
    folders = set(re.findall(r"\S+/lucid-metrics-[^/]+", maps))
    assert len(folders) < 2
    return Path(folders.pop()) if folders else None


@pytest.fixture(scope="module")
def whole_scene() -> Iterator[Scene]:
    dead = ",".join(f"http://127.0.0.1:{free_port()}" for _ in range(3))
    limits = {"RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": "1", "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE": "0"}
    with (
        RawCluster() as cluster,
        running_gateway(
            TRON_PAYMENT_URL=cluster.url, BLOCKCHAIN_CORE_URL=dead, NODE_MANAGEMENT_URL=dead.partition(",")[0], **limits
        ) as gateway,
    ):
        yield Scene(gateway, cluster, *(gateway.issue_token(f"{name}@lucid.test") for name in ("demo", "operator")))


@pytest.fixture
def scene(whole_scene: Scene) -> Scene:
    """The gateway with both workers alive, and its cluster reset after the last test."""
    whole_scene.cluster.forget()
    wait_until(lambda: whole_scene.value("lucid_workers") == 2)
    return whole_scene


def test_counts_are_exact_over_both_workers(scene: Scene) -> None:
    request = hammer.api("GET", WALLET, token=scene.user)

    def fire() -> None:
        with hammer.connections(scene.gateway, 8) as opened:
            for _, connection in opened * 25:
                connection.send(request)
            assert {connection.read_answer().status for _, connection in opened for _ in range(25)} == {200}

    before = scene.value("lucid_request_duration_seconds_count", **WALLETS)
    upstream = {"cluster": "tron_payment", "outcome": "2xx"}
    sent = scene.value("lucid_upstream_requests_total", **upstream)
    scene.rises("lucid_requests_total", 200, fire, **WALLETS, status="200")

    assert scene.value("lucid_request_duration_seconds_count", **WALLETS) - before == 200
    assert scene.value("lucid_upstream_requests_total", **upstream) - sent == 200


def test_parallel_clients_lose_no_count(scene: Scene) -> None:
    request = hammer.api("GET", "/meta/info")
    fire = lambda: in_parallel(16, lambda _: [ask(scene.gateway.port, request) for _ in range(5)])  # noqa: E731

    scene.rises("lucid_requests_total", 80, fire, **INFO)


def test_a_killed_worker_loses_no_counts_and_leaves_no_requests_in_flight(scene: Scene) -> None:
    answered = scene.value("lucid_requests_total", **WALLETS, status="200")
    assert scene.get(WALLET).status == 200
    before = answered + 1
    wait_until(lambda: scene.value("lucid_requests_total", **WALLETS, status="200") == before)  # after the last byte
    scene.cluster.behaviour = lambda visit: visit.over.wait(WAIT_SECONDS) and None
    with hammer.connections(scene.gateway, 2) as opened:
        for _, connection in opened:
            connection.send(hammer.api("GET", WALLET, token=scene.user))
        wait_until(lambda: scene.value("lucid_requests_in_flight") == 3)  # and the one that asks
        os.kill(opened[0][0], signal.SIGKILL)

        wait_until(lambda: scene.value("lucid_requests_in_flight") == 2)
        wait_until(lambda: scene.value("lucid_workers") == 2)
        assert scene.value("lucid_requests_total", **WALLETS, status="200") == before > 0
    scene.cluster.forget()

    wait_until(lambda: scene.value("lucid_requests_in_flight") == 1)
    wait_until(lambda: scene.figures()["active_connections"] == 1)
    assert scene.figures()["requests_per_second"] > before / 60


def infos(scene: Scene) -> float:
    """Return the number of answers to GET /meta/info."""
    return scene.value("lucid_requests_total", **INFO)


def test_the_files_of_dead_workers_are_merged(scene: Scene) -> None:
    folder, processes = folder_of(scene.gateway), {"0", str(scene.gateway.process.pid)}
    assert folder is not None
    left = lambda: {path.stem.rpartition("_")[2] for path in folder.glob("counter_*.db")} - processes  # noqa: E731

    for _ in range(2):
        assert scene.get("/meta/info").status == 200
        before = infos(scene)
        for pid in hammer.workers(scene.gateway):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: left() == set(map(str, hammer.workers(scene.gateway))) and len(left()) == 2)
        assert infos(scene) == before > 0


def test_the_folder_is_private_and_locked_while_the_gateway_lives(scene: Scene) -> None:
    folder = folder_of(scene.gateway)
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    descriptor = os.open(folder, os.O_RDONLY)

    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def test_a_reload_keeps_the_counts(scene: Scene) -> None:
    old = set(hammer.workers(scene.gateway))
    assert scene.get("/meta/info").status == 200
    before = infos(scene)
    scene.gateway.process.send_signal(signal.SIGHUP)

    wait_until(lambda: len(old & set(hammer.workers(scene.gateway))) == 0)
    assert infos(scene) == before > 0


def test_a_stream_is_in_flight_until_it_ends_and_is_counted_then(scene: Scene) -> None:
    scene.cluster.behaviour = answer_in_two_parts
    before = scene.value("lucid_requests_total", **WALLETS, status="200")
    with RawClient(scene.gateway.port) as connection:
        connection.send(hammer.api("GET", WALLET, token=scene.user))
        assert connection.read_head().status == 200

        assert scene.value("lucid_requests_in_flight") == 2
        assert scene.value("lucid_requests_total", **WALLETS, status="200") == before
        scene.cluster.visits[-1].over.set()

        wait_until(lambda: scene.value("lucid_requests_in_flight") == 1)
    assert scene.value("lucid_requests_total", **WALLETS, status="200") == before + 1


def answer_in_two_parts(visit: Visit) -> None:
    """Send half of a body, and the rest when the visit is over."""
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    visit.over.wait(WAIT_SECONDS)
    visit.send(b"k")


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        ("5xx", saying_and_closing(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")),
        ("cut", saying_and_resetting(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")),
        ("bad_answer", saying_and_closing(b"nonsense\r\n\r\n")),
    ],
)
def test_the_outcome_of_a_forwarded_request_is_counted(
    scene: Scene, outcome: str, answer: Callable[[Visit], None]
) -> None:
    scene.cluster.behaviour = answer

    def fire() -> None:
        with RawClient(scene.gateway.port) as connection:
            connection.send(hammer.api("POST", WALLET, {}, token=scene.user))
            connection.read_head()

    scene.rises("lucid_upstream_requests_total", 1, fire, cluster="tron_payment", outcome=outcome)


def test_an_unreachable_cluster_is_counted(scene: Scene) -> None:
    labels = {"cluster": "node_management", "outcome": "unreachable"}
    fire = lambda: ask(scene.gateway.port, hammer.api("POST", "/nodes", {}, token=scene.operator))  # noqa: E731

    scene.rises("lucid_upstream_requests_total", 1, fire, **labels)


def test_a_request_is_counted_if_its_client_leaves_before_the_answer(scene: Scene) -> None:
    scene.cluster.behaviour = lambda visit: visit.over.wait(WAIT_SECONDS) and None

    def leave() -> None:
        with RawClient(scene.gateway.port) as connection:
            connection.send(hammer.api("GET", WALLET, token=scene.user))
            wait_until(lambda: scene.cluster.requests)

    scene.rises("lucid_upstream_requests_total", 1, leave, cluster="tron_payment", outcome="client_left")


def test_second_attempts_are_counted(scene: Scene) -> None:
    fire = lambda: scene.get("/chain/info")  # noqa: E731

    scene.rises("lucid_upstream_retries_total", 2, fire, cluster="blockchain_core")


def test_refusals_are_counted_by_tier(scene: Scene) -> None:
    fire = lambda: [scene.get("/chain/blocks", token=scene.user) for _ in range(3)]  # noqa: E731

    scene.rises("lucid_rate_limited_total", 2, fire, tier="blockchain_query")


def test_malformed_http_is_counted(scene: Scene) -> None:
    fire = lambda: ask(scene.gateway.port, b"nonsense\r\n\r\n")  # noqa: E731

    scene.rises("lucid_refused_requests_total", 1, fire, reason="malformed")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html, */*;q=0.8", "application/json, text/plain"])
def test_json_is_the_default(scene: Scene, accept: str) -> None:
    answer = scene.get(METRICS, f"Accept: {accept}")

    assert answer.header("Content-Type") == "application/json"
    assert set(json.loads(answer.body)) == {"timestamp", "metrics"}


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [
        ("text/plain", parse_text, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=abc", parse_text, "text/plain; version=0.0.4; charset=utf-8"),
        (PROMETHEUS, parse_openmetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_prometheus_gets_its_text_format(scene: Scene, accept: str, parse: Any, content_type: str) -> None:
    answer = scene.get(METRICS, f"Accept: {accept}")

    assert answer.header("Content-Type") == content_type
    assert {"lucid_requests", "lucid_build_info"} <= {family.name for family in parse(answer.body.decode())}


def test_the_query_wins_over_accept(scene: Scene) -> None:
    assert scene.get(f"{METRICS}?format=json", "Accept: text/plain").header("Content-Type") == "application/json"
    assert scene.get(f"{METRICS}?format=prometheus", "Accept: */*").body.startswith(b"# HELP")


def test_an_unknown_format_is_refused(scene: Scene) -> None:
    answer = scene.get(f"{METRICS}?format=xml")

    assert (answer.status, answer.code) == (422, "1003")


def test_a_caller_without_the_permission_is_refused_and_counted_in_the_public_tier(scene: Scene) -> None:
    refused, served = scene.get(METRICS, token=scene.user), scene.get(METRICS)

    assert (refused.status, refused.code, refused.header("X-RateLimit-Limit")) == (403, "2004", "1000")
    assert (served.status, served.header("X-RateLimit-Limit")) == (200, "10000")


def test_open_connections_include_all_workers(scene: Scene) -> None:
    with hammer.connections(scene.gateway, 6):
        wait_until(lambda: scene.figures()["active_connections"] >= 7)

    wait_until(lambda: scene.figures()["active_connections"] == 1)


def test_no_label_contains_a_value_from_a_client(scene: Scene) -> None:
    for request in (
        request_bytes("GET", "/api/v1/wallets/secret-1?q=secret-2", f"Authorization: Bearer {scene.user}"),
        request_bytes("GET", "/secret-3", "X-API-Key: secret-4"),
        request_bytes("SECRET-5", "/api/v1/meta/info"),
        request_bytes("GET", "/static/secret-6", "X-Forwarded-For: 192.0.2.66", "X-Request-ID: secret-7777"),
        request_bytes("GET", "/admin/secret-8/"),
    ):
        ask(scene.gateway.port, request)
    # The addresses of instances are the operators' own.
    text = re.sub(r'instance="[^"]*"', "", scene.text().lower())

    assert "secret" not in text
    assert "192.0.2.66" not in text
    assert "127.0.0.1" not in text
    assert scene.user.lower()[:20] not in text
    assert 'method="other"' in text


def test_the_manual_lists_exactly_the_metrics(scene: Scene) -> None:
    from lucid_gateway.kernel import metrics

    section = (ROOT / "docs" / "operations.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `lucid_")]
    collectors = [value for name, value in vars(metrics).items() if name.isupper() and hasattr(value, "_labelnames")]
    ending = {"counter": "_total"}
    described = {
        f"`{one._name}{ending.get(one._type, '')}"
        + ("{" + ",".join(one._labelnames) + "}`" if one._labelnames else "`")
        for one in collectors
    }

    assert {row.strip() for row in rows} == described
    assert len(rows) == len(collectors)


@pytest.mark.quiet
def test_percentiles_and_rates_are_accurate_within_ten_percent() -> None:
    def wait_and_answer(visit: Visit) -> None:
        slow, failing = visit.request.target.endswith("slow"), visit.request.target.endswith("failing")
        time.sleep(0.9 if slow else 0.3)
        visit.send(b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\n\r\n" % (500 if failing else 200))

    with RawCluster() as cluster, running_gateway(TRON_PAYMENT_URL=cluster.url) as gateway:
        cluster.behaviour = wait_and_answer
        scene = Scene(gateway, cluster, "", gateway.issue_token("operator@lucid.test"))
        kinds = ["slow"] * 8 + ["failing"] * 10 + ["plain"] * 62
        requests = [hammer.api("GET", f"/wallets/{kind}", token=scene.operator) for kind in kinds]
        in_parallel(10, lambda index: [ask(gateway.port, request) for request in requests[index::10]])
        wait_until(lambda: len(gateway.access_lines()) == 81)  # and the one with which it started
        durations = sorted(line["duration_ms"] for line in gateway.access_lines())
        figures = scene.figures()

    # Against what the log says: a busy machine makes the cluster slower than it means to be.
    for percent, delay in ((50, 300), (95, 900), (99, 900)):
        exact = durations[math.ceil(percent / 100 * len(durations)) - 1]
        assert delay * 0.95 < figures[f"response_time_p{percent}"] == pytest.approx(exact, rel=0.06)
    assert figures["requests_per_second"] == pytest.approx(len(durations) / 60, rel=0.01)
    assert figures["error_rate"] == pytest.approx(10 / len(durations), rel=0.01)


def test_metrics_work_without_redis_and_their_folder_is_removed_with_the_gateway() -> None:
    with RawCluster() as cluster, running_redis() as redis, running_gateway(REDIS_URL=redis.url) as gateway:
        scene = Scene(gateway, cluster, "", gateway.issue_token("operator@lucid.test"))
        assert scene.get(METRICS).status == 200
        redis.process.kill()
        redis.process.wait()

        assert scene.get(METRICS).status == 200
        assert scene.figures()["requests_per_second"] > 0
        assert scene.value("lucid_redis_unavailable_total") > 0
        folder = folder_of(gateway)
        assert folder is not None
    assert not folder.exists()


def test_disabled_metrics_have_no_endpoint() -> None:
    with running_gateway(METRICS_ENABLED="false") as gateway:
        answer = ask(gateway.port, hammer.api("GET", METRICS))

        assert (answer.status, answer.code) == (404, "4001")
        assert folder_of(gateway) is None


def test_an_api_key_with_only_this_permission_reads_metrics(api: ApiClient, node_operator: Any) -> None:
    from accounts.api_keys import create_api_key

    key = create_api_key(node_operator, name="prometheus", permissions=["system:monitor"])[1]
    answer = api.send("get", METRICS, headers={"X-API-Key": key})

    assert (answer.status_code, answer["X-RateLimit-Limit"]) == (200, "10000")
    assert set(answer.json()["metrics"]) == {
        "requests_per_second", "response_time_p50", "response_time_p95", "response_time_p99", "error_rate",
        "active_connections",
    }  # fmt: skip


def test_metrics_need_a_credential(api: ApiClient, db: None) -> None:
    assert error_code(api.send("get", METRICS)) == "2001"
