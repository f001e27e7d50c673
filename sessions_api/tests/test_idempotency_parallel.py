"""The promises of an Idempotency-Key under parallel requests to two workers of a real gateway, also if they die."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from sessions_api.tests.trust import POLICY
from testing.gateway import Gateway, running_gateway
from testing.hammer import api, connections, volley, workers
from testing.http.client import RawClient, ask
from testing.http.messages import Cut, Ended, Message

pytestmark = pytest.mark.usefixtures("db")
MANY, OF_A_CRASH = 20, 40
# Run beside the gateway: a completed session, and the token of its owner.
PREPARE = """
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from sessions_api.models import Chunk, Session
user = User.objects.get(email="operator@lucid.test")
session = Session.objects.create(user=user, name="it", status="completed")
Chunk.objects.create(session=session, index=0, size=1, hash="00" * 32, state="recorded")
print(session.pk, issue_tokens(user).access)
"""
END_LEASES = """
from django.utils import timezone
from accounts.models import IdempotentRequest
IdempotentRequest.objects.update(lease_ends_at=timezone.now())
"""
BODIES: dict[str, Any] = {
    "/sessions": {"name": "once"},
    "/trust/policies": POLICY,
    "/users/me/api-keys": {"name": "once", "permissions": ["user:read"]},
    "/manifests": None,
}


@dataclass(frozen=True)
class Stage:
    """A gateway, a completed session, and the token of its owner."""

    gateway: Gateway
    completed: str
    token: str = field(repr=False)

    def listed(self, path: str) -> list[Any]:
        """Return the owner's resources."""
        answer = json.loads(ask(self.gateway.port, api("GET", f"{path}?limit=100", token=self.token)).body)
        rows: list[Any] = next(found for found in answer.values() if isinstance(found, list))
        return rows


def run(gateway: Gateway, script: str) -> str:
    """Run Python code beside the gateway and return what it printed."""
    return gateway.manage("shell", "--verbosity", "0", "--command", script)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_gateway(MONGODB_DATABASE="idempotency", RATE_LIMIT_ENABLED="false") as gateway:
        yield Stage(gateway, *run(gateway, PREPARE).split())


def outcome(answer: Message) -> str:
    """Return `made`, `again` for a repeated answer, or `in progress`."""
    if answer.status == 409:
        assert answer.error()["details"] == {"outcome": "under_way"}
        return "in progress"
    assert answer.status == 201
    return "again" if answer.header("Idempotent-Replayed") else "made"


@pytest.mark.parametrize("path", BODIES)
def test_of_twenty_concurrent_requests_one_creates_and_later_ones_get_its_answer(stage: Stage, path: str) -> None:
    body = {"session_id": stage.completed} if path == "/manifests" else BODIES[path]
    request = api("POST", path, body, f"Idempotency-Key: once{path}", token=stage.token)
    before = len(stage.listed(path))

    outcomes = [outcome(answer) for answer in volley(stage.gateway, [request] * MANY)]

    assert outcomes.count("made") == 1
    assert [outcome(answer) for answer in volley(stage.gateway, [request] * 4)] == ["again"] * 4
    assert len(stage.listed(path)) == before + 1


def try_to(connection: RawClient, request: bytes) -> Message | None:
    """Return the answer, None if the worker dies before it has sent all of it."""
    connection.send(request)
    try:
        return connection.read_answer()
    except (Ended, Cut):
        return None


def test_killed_workers_create_nothing_twice_and_block_no_key(stage: Stage) -> None:
    names = [f"recording-{number}" for number in range(OF_A_CRASH)]
    requests = [
        api("POST", "/sessions", {"name": name}, f"Idempotency-Key: {name}", token=stage.token) for name in names
    ]
    with connections(stage.gateway, OF_A_CRASH) as opened, ThreadPoolExecutor(OF_A_CRASH) as threads:
        sent = [threads.submit(try_to, client, request) for (_, client), request in zip(opened, requests, strict=True)]
        while not any(one.done() for one in sent):
            time.sleep(0.001)
        for pid in workers(stage.gateway):
            os.kill(pid, signal.SIGKILL)
        firsts = [one.result() for one in sent]
    run(stage.gateway, END_LEASES)

    seconds = [ask(stage.gateway.port, request) for request in requests]

    assert [answer.status for answer in seconds] == [201] * OF_A_CRASH
    made = [session["name"] for session in stage.listed("/sessions")]
    assert sorted(name for name in made if name.startswith("recording")) == sorted(names)
    for first, second in zip(firsts, seconds, strict=True):
        assert first is None or (first.status, first.body) == (201, second.body)
