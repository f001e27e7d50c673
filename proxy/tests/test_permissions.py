"""The permission of each forwarded route, tested with API keys through a real gateway."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.tests.conftest import Stage
from testing.hammer import api
from testing.http.client import Ask
from testing.http.client import ask as ask_raw
from testing.http.messages import Message

pytestmark = pytest.mark.planes

NewKey = Callable[..., str]
READS, WRITES = ("GET", "HEAD"), ("POST", "PUT", "PATCH", "DELETE")
RESOURCES = {"wallets": "wallet", "rdp": "rdp", "nodes": "node", "storage": "storage"}


@pytest.fixture(scope="module")
def operator(whole_stage: Stage) -> str:
    """The token of a node operator, who has every permission that forwarded routes require."""
    return whole_stage.gateway.issue_token("operator@lucid.test")


@pytest.fixture(scope="module")
def new_key(whole_stage: Stage, operator: str) -> NewKey:
    """Creates an API key of the node operator."""

    def create(*permissions: str) -> str:
        data = {"name": "a key", "permissions": permissions}
        answer = ask_raw(whole_stage.gateway.port, api("POST", "/users/me/api-keys", data, token=operator))
        key: str = json.loads(answer.body)["api_key"]
        return key

    return create


def ask_by_key(ask: Ask, method: str, path: str, key: str) -> Message:
    return ask(method, path, f"X-API-Key: {key}", token="")


def refused(answer: Message) -> bool:
    return answer.status == 403 and (not answer.body or answer.code == "2004")


def arrived(stage: Stage) -> list[Any]:
    return [request for cluster in stage.clusters.values() for request in cluster.requests]


def test_a_key_for_the_profile_cannot_send_money(ask: Ask, stage: Stage, new_key: NewKey) -> None:
    key = new_key("user:read")
    assert ask_by_key(ask, "GET", "/users/me", key).status == 200

    assert refused(ask_by_key(ask, "POST", "/wallets/w-1/transactions", key))
    assert arrived(stage) == []


@pytest.mark.parametrize("resource", RESOURCES)
def test_a_key_without_the_permission_of_a_route_reaches_no_cluster(
    ask: Ask, stage: Stage, new_key: NewKey, resource: str
) -> None:
    others = [f"{name}:{way}" for path, name in RESOURCES.items() for way in ("read", "write") if path != resource]
    key = new_key("user:read", "user:update", "session:read", "session:update", "blockchain:read", *others)

    answers = [ask_by_key(ask, method, f"/{resource}{rest}", key) for method in READS + WRITES for rest in ("", "/1/2")]

    assert all(refused(answer) for answer in answers)
    assert arrived(stage) == []


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize(("way", "may", "may_not"), [("read", READS, WRITES), ("write", WRITES, READS)])
def test_a_key_for_reading_cannot_write_and_vice_versa(
    *, ask: Ask, stage: Stage, new_key: NewKey, resource: str, way: str, may: tuple[str, ...], may_not: tuple[str, ...]
) -> None:
    key = new_key(f"{RESOURCES[resource]}:{way}")

    assert all(refused(ask_by_key(ask, method, f"/{resource}/1", key)) for method in may_not)
    assert arrived(stage) == []
    assert [ask_by_key(ask, method, f"/{resource}/1", key).status for method in may] == [200] * len(may)


@pytest.mark.parametrize("path", ["/nodes", "/nodes/n-1/restart"])
@pytest.mark.parametrize("method", WRITES)
def test_only_node_operators_may_write_to_nodes(
    *, ask: Ask, stage: Stage, operator: str, method: str, path: str
) -> None:
    assert refused(ask(method, path))
    assert arrived(stage) == []

    assert ask(method, path, token=operator).status == 200
