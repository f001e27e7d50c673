"""A real gateway behind a real edge, with raw clusters behind both."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError

import pytest

from proxy.tests.conftest import LONG_TOKENS
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster
from testing.http.messages import Message
from testing.waiting import wait_until

LIMIT, BURST = 40, 10


@dataclass
class Stage:
    """The gateway, its edge, the clusters of wallets and of the chain, and a plain user's token."""

    gateway: Gateway
    wallets: RawCluster
    chain: RawCluster
    token: str

    def ask(
        self, path: str = "/wallets", *fields: str, method: str = "GET", token: str | None = None, **more: Any
    ) -> Message:
        """Send one request on a new connection and return the answer."""
        with RawClient(self.gateway.port, self.token if token is None else token) as client:
            return client.ask(method, path, *fields, **more)

    def lines(self, request_id: str) -> list[dict[str, Any]]:
        """Return the lines of the log about a request, once there are any."""
        return wait_until(
            lambda: [line for line in self.gateway.access_lines() if line.get("request_id") == request_id]
        )

    def plane(self, answer: Message) -> str:
        """Return which plane gave the answer."""
        (line,) = self.lines(answer.header("X-Request-ID"))
        return str(line["plane"])

    def taught(self, email: str) -> str:
        """Return a new token of the user, which the edge knows."""
        token = self.gateway.issue_token(email)
        self.gateway.warm(token, "/wallets")
        return token


@pytest.fixture(scope="session")
def whole_edge_stage() -> Iterator[Stage]:
    with RawCluster() as wallets, RawCluster() as chain:
        urls = {"TRON_PAYMENT_URL": wallets.url, "BLOCKCHAIN_CORE_URL": chain.url}
        with running_gateway(edge=True, RATE_LIMIT_ENABLED="false", **LONG_TOKENS, **urls) as gateway:
            yield Stage(gateway, wallets, chain, gateway.issue_token("demo@lucid.test"))


@pytest.fixture
def stage(whole_edge_stage: Stage) -> Stage:
    """The stage without requests from earlier tests; the edge knows the user."""
    for cluster in (whole_edge_stage.wallets, whole_edge_stage.chain):
        cluster.forget()
    try:
        whole_edge_stage.gateway.warm(whole_edge_stage.token, "/wallets")
    except HTTPError:  # an earlier test has ended all tokens
        whole_edge_stage.token = whole_edge_stage.taught("demo@lucid.test")
    whole_edge_stage.wallets.forget()
    return whole_edge_stage


def shell(gateway: Gateway, code: str) -> str:
    """Run Python with the gateway's settings and return what it printed."""
    return gateway.manage("shell", "--no-imports", "-c", code)


def printed(gateway: Gateway, code: str) -> Any:
    """Return the JSON that the code prints."""
    return json.loads(shell(gateway, code).splitlines()[-1])
