"""A gateway on a MongoDB replica set of three members, under a light load, while members fail.

The members elect a new primary after a second; MongoDB's default is ten. docs/operations.md has the figures.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from testing.gateway import running_gateway
from testing.http.cluster import RawCluster
from testing.load import FORWARDED, KINDS, LOGOUT, READ, SESSION, Load, under_load
from testing.replica_set import SECONDARY, ReplicaSet, running_replica_set
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet
DATABASE = "replicated"
LIMITS = {f"RATE_LIMIT_{tier}_REQUESTS_PER_MINUTE": "100000" for tier in ("AUTHENTICATED", "BLOCKCHAIN_QUERY")}
# Seconds, threefold what was measured or more: after these no request fails any longer, and no request takes longer.
FORWARDED_WITHIN = 1.5
KILLED = (9, 9)
STEPPED_DOWN = (3.9, 3.9)
CUT_OFF = (6.3, 6.3)
HUNG = (38.1, 24.3)
MAJORITY_BACK = (8.7, 8.7)
UNAVAILABLE = (503, "5002", True)
REVOKED = (401, "2003", False)  # the repetition of a logout that failed, but was applied


@dataclass
class Stage:
    replica_set: ReplicaSet
    load: Load

    def assert_forwarded(self, since: float) -> None:
        """All forwarded requests were served, and none waited for the database."""
        forwarded = self.load.of(FORWARDED, after=since)
        assert len(forwarded) > 5
        assert {one.status for one in forwarded} == {200}
        assert max(one.seconds for one in forwarded) < FORWARDED_WITHIN

    def assert_refused_well(self, since: float) -> None:
        """What failed got 503 with Retry-After."""
        failed = [one for one in self.load.of(*KINDS, after=since) if not one.succeeded]
        outcomes = {(one.status, one.code, one.has_retry_after) for one in failed}
        assert outcomes <= {UNAVAILABLE, REVOKED}

    def assert_recovered(self, since: float, seconds: tuple[float, float]) -> None:
        """Nothing fails any longer, and nothing has waited for longer than that."""
        self.load.wait_until_served()
        asked = self.load.of(*KINDS, after=since)
        refused = [one.ended - since for one in asked if one.status == 503]
        assert max(refused, default=0) < seconds[0]
        assert max(one.seconds for one in asked) < seconds[1]
        self.assert_refused_well(since)
        self.assert_nothing_lost()

    def assert_nothing_lost(self) -> None:
        """All that was acknowledged is stored by a majority."""
        sessions = {uuid.UUID(key).hex for key in self.load.written(SESSION)}
        logouts = self.load.written(LOGOUT)
        assert sessions
        assert logouts
        assert sessions <= self.replica_set.stored(DATABASE, "sessions_api_session", "session_id")
        revoked = self.replica_set.stored(DATABASE, "accounts_issuedtoken", "jti", revoked_at={"$ne": None})
        assert logouts <= revoked


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with running_replica_set() as replica_set, RawCluster() as chain:
        database = {"MONGODB_URI": replica_set.uri, "MONGODB_DATABASE": DATABASE}
        settings = database | LIMITS | {"WEB_CONCURRENCY": "1", "BLOCKCHAIN_CORE_URL": chain.url}
        with running_gateway(**settings) as gateway, under_load(gateway) as load:
            yield Stage(replica_set, load)


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The gateway with the load, and a set whose members are all well."""
    running.replica_set.wait_until_whole()
    running.load.wait_until_served()
    return running


def test_when_the_primary_is_killed_writes_go_on_at_the_next_one(stage: Stage) -> None:
    began, primary = time.monotonic(), stage.replica_set.primary()
    with stage.replica_set.killed(primary):
        stage.assert_recovered(began, KILLED)
        stage.assert_forwarded(began)


def test_when_the_primary_steps_down_writes_go_on_at_the_next_one(stage: Stage) -> None:
    began = time.monotonic()
    stage.replica_set.step_down()

    stage.assert_recovered(began, STEPPED_DOWN)
    stage.assert_forwarded(began)


def test_a_hung_primary_is_left_and_what_it_alone_has_written_was_never_acknowledged(stage: Stage) -> None:
    began, primary = time.monotonic(), stage.replica_set.primary()
    with stage.replica_set.hung(primary):
        assert stage.replica_set.primary() is not primary
        stage.assert_recovered(began, HUNG)

    stage.replica_set.wait_until_whole()
    stage.assert_recovered(began, HUNG)
    stage.assert_forwarded(began)


def test_a_primary_that_the_others_cannot_reach_acknowledges_nothing_that_is_lost(stage: Stage) -> None:
    began, primary = time.monotonic(), stage.replica_set.primary()
    with stage.replica_set.cut_off(primary):
        wait_until(lambda: primary.state() == SECONDARY)
        assert stage.replica_set.primary() is not primary
        stage.assert_recovered(began, CUT_OFF)

    stage.replica_set.wait_until_whole()
    stage.assert_recovered(began, CUT_OFF)
    stage.assert_forwarded(began)


def test_without_a_majority_requests_are_forwarded_and_what_was_acknowledged_stays(stage: Stage) -> None:
    began = time.monotonic()
    with stage.replica_set.hung(*stage.replica_set.secondaries()):
        time.sleep(6)
        lost = time.monotonic()
        with requests.get(f"{stage.load.gateway.url}/meta/health", timeout=20) as answer:
            assert (answer.status_code, answer.json()["status"]) == (200, "degraded")

    assert {one.kind for one in stage.load.of(*KINDS, after=began) if one.status == 503} == {READ, SESSION, LOGOUT}
    stage.assert_recovered(lost, MAJORITY_BACK)
    stage.assert_refused_well(began)
    stage.assert_forwarded(began)
