"""A real gateway with raw clusters behind it, shared by all files of these tests."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.clusters import Instance, configured, instance
from testing.gateway import Gateway, running_gateway
from testing.http.client import Ask, Connect, RawClient
from testing.http.cluster import RawCluster
from testing.servers import child, folder, free_port, wait_for_port

CLUSTERS = {
    "chain": "BLOCKCHAIN_CORE_URL",
    "wallets": "TRON_PAYMENT_URL",
    "rdp": "RDP_SERVICES_URL",
    "nodes": "NODE_MANAGEMENT_URL",
    "storage": "STORAGE_DATABASE_URL",
}


LONG_TOKENS = {"JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "1440"}  # a run of all tests takes longer than 15 minutes


@dataclass(frozen=True)
class Stage:
    """The gateway, the clusters behind it, and a plain user's token."""

    gateway: Gateway
    clusters: dict[str, RawCluster]
    token: str

    def connect(self, token: str | None = None) -> RawClient:
        """Return a new connection to the gateway, by default with the user's token."""
        return RawClient(self.gateway.port, self.token if token is None else token)


@pytest.fixture(scope="session")
def whole_stage() -> Iterator[Stage]:
    clusters = {name: RawCluster().__enter__() for name in CLUSTERS}
    urls = {CLUSTERS[name]: cluster.url for name, cluster in clusters.items()}
    with running_gateway(RATE_LIMIT_ENABLED="false", **LONG_TOKENS, **urls) as gateway:
        yield Stage(gateway, clusters, gateway.issue_token("demo@lucid.test"))
    for cluster in clusters.values():
        cluster.__exit__()


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    """The gateway and its clusters, without requests or behaviour from earlier tests. An edge knows the user."""
    for cluster in whole_stage.clusters.values():
        cluster.forget()
    whole_stage.gateway.warm(whole_stage.token, "/wallets")
    whole_stage.clusters["wallets"].forget()
    return whole_stage


@pytest.fixture
def wallets(stage: Stage) -> RawCluster:
    """The cluster behind /wallets, where every user may use every method."""
    return stage.clusters["wallets"]


@pytest.fixture
def connect(stage: Stage) -> Iterator[Connect]:
    """Opens connections to the gateway and closes them after the test."""
    opened: list[RawClient] = []

    def open_one(token: str | None = None) -> RawClient:
        opened.append(stage.connect(token))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """Sends one request on a new connection and returns the answer."""
    return lambda *arguments, token=None, **more: connect(token).ask(*arguments, **more)


@pytest.fixture
def raw_cluster() -> Iterator[RawCluster]:
    """A cluster's server, for tests without a gateway."""
    with RawCluster() as cluster:
        yield cluster


@pytest.fixture
def twins(settings: Any) -> Iterator[tuple[Instance, Instance]]:
    """The two instances of the cluster blockchain_core in this process; neither has a listener."""
    urls = ("http://one.test:8084", "http://two.test")
    settings.ENV = settings.ENV.model_copy(update={"BLOCKCHAIN_CORE_URL": urls})
    configured.cache_clear()
    yield instance(urls[0]), instance(urls[1])
    configured.cache_clear()


@dataclass(frozen=True)
class SecondStage:
    """A gateway with httpbin behind /wallets, one dead and two live instances behind /chain, and a low query limit."""

    gateway: Gateway
    instances: tuple[RawCluster, RawCluster]
    httpbin_port: int
    token: str
    operator: str

    def connect(self, token: str | None = None) -> RawClient:
        """Return a new connection to the gateway, by default with the user's token."""
        return RawClient(self.gateway.port, token or self.token)


@pytest.fixture(scope="session")
def whole_second_stage() -> Iterator[SecondStage]:
    port = free_port()
    command = [sys.executable, "-m", "proxy.tests.httpbin_server", str(port)]
    with folder() as path, child(command, path / "log") as httpbin, RawCluster() as first, RawCluster() as second:
        wait_for_port(port, httpbin)
        with running_gateway(
            BLOCKCHAIN_CORE_URL=f"http://127.0.0.1:{free_port()},{first.url},{second.url}",
            TRON_PAYMENT_URL=f"http://127.0.0.1:{port}",
            RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE="1",
            RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE="0",
            **LONG_TOKENS,
        ) as gateway:
            tokens = [gateway.issue_token(f"{name}@lucid.test") for name in ("demo", "operator")]
            yield SecondStage(gateway, (first, second), port, *tokens)


@pytest.fixture
def second_stage(whole_second_stage: SecondStage) -> SecondStage:
    """The second gateway; its raw clusters have no requests or behaviour from earlier tests."""
    for cluster in whole_second_stage.instances:
        cluster.forget()
    return whole_second_stage
