"""Gateways on a real Sentinel group during each kind of failover."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jwt
import pytest
from redis import Redis

from lucid_gateway.policy import keys
from ratelimit.tests.crowd import bearer, crowd, get
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, request_bytes
from testing.sentinel import SentinelGroup, running_sentinel_group

pytestmark = pytest.mark.quiet

USER, ME = "demo@lucid.test", "/users/me"
RECOVERED_WITHIN = 2.0  # seconds after Sentinel named the new primary


@dataclass(frozen=True)
class Stage:
    """A gateway on a Sentinel group, and a token of its user."""

    gateway: Gateway
    group: SentinelGroup
    token: str

    def ask(self, number: int) -> set[int]:
        """Send concurrent requests of the user to both workers; return the statuses of the answers."""
        return {answer.status for answer in crowd([self.gateway.port], [get(ME, bearer(self.token))] * number)}

    def counted(self) -> int:
        """Return the number of the user's requests that the new primary has counted."""
        user = jwt.decode(self.token, options={"verify_signature": False})["user_id"]
        with Redis(port=self.group.second.port) as redis:
            return int(redis.hget(keys.quota(keys.user(user)), "n") or 0)

    def scripts_run_by(self, port: int) -> int:
        """Return the number of scripts that the server has run."""
        with Redis(port=port) as redis:
            calls: int = redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
            return calls


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A gateway, each of whose workers has opened all its connections to the primary."""
    settings = {
        "REDIS_TIMEOUT_SECONDS": "0.3",
        "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": "100000",
        "RATE_LIMIT_DAILY_QUOTA": "100000",
    }
    with running_sentinel_group() as group, running_gateway(REDIS_URL=group.url, **settings) as gateway:
        stage = Stage(gateway, group, gateway.issue_token(USER))
        assert stage.ask(400) == {200}
        yield stage


@contextlib.contextmanager
def steady_requests(stage: Stage) -> Iterator[list[tuple[int, float]]]:
    """Send ten requests a second in this context, and add the status and the seconds of each to the list."""
    found: list[tuple[int, float]] = []
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.1):
            started = time.monotonic()
            with RawClient(stage.gateway.port, timeout=30) as connection:
                connection.send(get(ME, bearer(stage.token)))
                found.append((connection.read_answer().status, time.monotonic() - started))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def test_after_a_failover_every_worker_uses_the_new_primary_immediately(stage: Stage) -> None:
    with steady_requests(stage) as answers:
        stage.group.first.process.kill()
        stage.group.wait_for_failover()
        time.sleep(RECOVERED_WITHIN)
    before = stage.counted()

    assert stage.ask(200) == {200}
    assert stage.counted() - before == 200
    assert {status for status, _ in answers} == {200}
    assert max(seconds for _, seconds in answers) < 2


def test_a_hung_primary_that_comes_back_after_the_failover_is_ignored(stage: Stage) -> None:
    before = stage.scripts_run_by(stage.group.first.port)
    os.kill(stage.group.first.process.pid, signal.SIGSTOP)
    stage.group.wait_for_failover()
    time.sleep(RECOVERED_WITHIN)  # no request comes meanwhile
    os.kill(stage.group.first.process.pid, signal.SIGCONT)

    assert stage.ask(100) == {200}
    logout = request_bytes("POST", "/api/v1/auth/logout", bearer(stage.token))
    assert {answer.status for answer in crowd([stage.gateway.port], [logout], clients=1)} == {200}
    assert stage.ask(100) == {401}

    assert stage.scripts_run_by(stage.group.first.port) == before
    assert stage.scripts_run_by(stage.group.second.port) >= 200
