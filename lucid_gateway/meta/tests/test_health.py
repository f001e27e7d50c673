"""GET /meta/health and its probes, with dependencies that are really stopped, hanging or broken."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from demo.launch import running_clusters
from lucid_gateway.meta.health import check, overall
from proxy.choosing.instances import states_of
from proxy.choosing.sharing import Sharing, all_instances, first_results
from proxy.operators.closing import close_cluster
from testing.gateway import Gateway, running_gateway
from testing.http.client import ask, request_bytes
from testing.http.cluster import silent_server
from testing.http.messages import Message
from testing.servers import RedisServer, free_port, running_redis
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet

REMEMBERED = 1.1
CLUSTERS = ("blockchain_core", "session_management", "tron_payment")  # where nothing listens
CHECKED = {"CLUSTER_HEALTH_CHECKS_ENABLED": "true", "HEALTH_CHECK_INTERVAL": "1"}


def get(gateway: Gateway, probe: str = "") -> Message:
    """Return the answer of a probe, which must come within a second on an idle machine."""
    started = time.monotonic()
    answer = ask(gateway.port, request_bytes("GET", f"/api/v1/meta/health{probe}"))
    assert time.monotonic() - started < 4  # and more for a busy machine; what hangs does so for longer
    return answer


def health(gateway: Gateway) -> dict[str, Any]:
    """Return the answer's JSON, with its `http` status."""
    answer = get(gateway)
    return json.loads(answer.body) | {"http": answer.status}


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    with running_redis() as redis:
        yield redis


@pytest.fixture
def hung_cluster() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with silent_server() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def failing(hung_cluster: str, redis_of_its_own: RedisServer) -> Iterator[Gateway]:
    """A gateway with a cluster that hangs and one that is stopped."""
    with running_gateway(
        BLOCKCHAIN_CORE_URL=hung_cluster,
        TRON_PAYMENT_URL=f"http://127.0.0.1:{free_port()}",
        REDIS_URL=redis_of_its_own.url,
        **CHECKED,
    ) as gateway:
        yield gateway


@contextmanager
def broken_database(gateway: Gateway) -> Iterator[None]:
    """Put a folder where the database file was."""
    path = Path(gateway.env["SQLITE_PATH"])
    path.rename(path.with_suffix(".away"))
    path.mkdir()
    yield
    path.rmdir()
    path.with_suffix(".away").rename(path)


@pytest.fixture
def well() -> Iterator[Gateway]:
    """A gateway with clusters that answer."""
    with (
        running_clusters() as clusters,
        running_gateway(
            BLOCKCHAIN_CORE_URL=clusters.blockchain_core,
            SESSION_MANAGEMENT_URL=clusters.session_management,
            TRON_PAYMENT_URL=clusters.tron_payment,
            **CHECKED,
        ) as gateway,
    ):
        yield gateway


def test_everything_is_healthy(well: Gateway) -> None:
    answer = wait_until(lambda: now if (now := health(well))["status"] == "healthy" else {}, every=0.25)

    assert (answer["http"], answer["status"]) == (200, "healthy")
    assert answer["dependencies"] == dict.fromkeys(
        ["database", "redis", "blockchain_core", "session_management", "tron_payment"], "healthy"
    )
    assert answer.keys() >= {"timestamp", "service", "version", "uptime", "response_time"}
    assert answer["uptime"] > 0


def test_outages_degrade_the_status_and_only_both_stores_down_is_unhealthy(
    failing: Gateway, redis_of_its_own: RedisServer
) -> None:
    states = lambda: {health(failing)["dependencies"][name] for name in CLUSTERS}  # noqa: E731
    wait_until(lambda: states() == {"unhealthy"}, every=0.25)  # the public tier would refuse faster requests
    first = health(failing)
    assert (first["http"], first["status"]) == (200, "degraded")
    assert first["dependencies"]["database"] == first["dependencies"]["redis"] == "healthy"

    with broken_database(failing):
        time.sleep(REMEMBERED)
        answer = health(failing)
        assert (answer["http"], answer["status"], answer["dependencies"]["database"]) == (200, "degraded", "unhealthy")

        redis_of_its_own.process.kill()
        redis_of_its_own.process.wait()
        time.sleep(REMEMBERED)
        answer = health(failing)
        assert (answer["http"], answer["status"], answer["dependencies"]["redis"]) == (503, "unhealthy", "unhealthy")
        ready = get(failing, "/ready")
        assert (ready.status, json.loads(ready.body)) == (503, {"status": "not ready"})
        assert ready.header("Retry-After")
        assert get(failing, "/live").status == 200

    time.sleep(REMEMBERED)
    answer = health(failing)
    assert (answer["http"], answer["status"], answer["dependencies"]["database"]) == (200, "degraded", "healthy")


@pytest.fixture
def worker(settings: Settings) -> Iterator[Sharing]:
    """A worker's task for each second, before the first health check."""
    settings.ENV = settings.ENV.model_copy(update={"CLUSTER_HEALTH_CHECKS_ENABLED": True, "HEALTH_CHECK_INTERVAL": 1})
    states_of.cache_clear()
    yield Sharing(all_instances)
    states_of.cache_clear()


def found(worker: Sharing) -> set[str]:
    """Return the health of the clusters after one more round of the worker."""
    worker.share_once()
    return {check().dependencies[cluster] for cluster in CLUSTERS}


def test_a_new_worker_shares_until_each_first_check_has_a_result(
    db: None, worker: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_results, "due_at", time.monotonic() + 60)

    worker.share_quickly_at_first()

    assert {check().dependencies[cluster] for cluster in CLUSTERS} == {"unhealthy"}


def test_a_drained_cluster_is_checked_and_one_in_maintenance_is_not(db: None, worker: Sharing) -> None:
    for cluster in CLUSTERS:
        close_cluster(cluster=cluster, kind="drain", reason="an upgrade", by="operator")
    wait_until(lambda: found(worker) == {"unhealthy"})
    for cluster in CLUSTERS:
        close_cluster(cluster=cluster, kind="maintenance", reason="an upgrade", by="operator")

    assert found(worker) == {"unknown"}
    assert worker.checker.checks == {}
    assert check().status == "healthy"


def test_a_cluster_that_was_not_checked_yet_is_unknown_and_counts(db: None, worker: Sharing) -> None:
    assert {check().dependencies[cluster] for cluster in CLUSTERS} == {"unknown"}
    assert check().status == "degraded"


def test_without_health_checks_clusters_are_unknown_and_do_not_count(db: None) -> None:
    assert {check().dependencies[cluster] for cluster in CLUSTERS} == {"unknown"}
    assert check().status == "healthy"


@pytest.mark.parametrize(("probe", "status"), [("/live", "alive"), ("/ready", "ready")])
def test_a_probe_returns_only_its_status(gateway: Gateway, probe: str, status: str) -> None:
    answer = get(gateway, probe)

    assert (answer.status, json.loads(answer.body)) == (200, {"status": status})


@pytest.mark.parametrize(
    ("database", "redis", "cluster", "status"),
    [
        ("healthy", "healthy", "healthy", "healthy"),
        ("healthy", "healthy", "unknown", "degraded"),
        ("unhealthy", "healthy", "healthy", "degraded"),
        ("healthy", "unknown", "unhealthy", "degraded"),
        ("unhealthy", "unknown", "healthy", "unhealthy"),
    ],
)
def test_the_overall_status_follows_from_the_dependencies(database: str, redis: str, cluster: str, status: str) -> None:
    assert overall({"database": database, "redis": redis, "blockchain_core": cluster}) == status
