"""Uploads while Redis or the database is unavailable (on SQLite)."""

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from sessions_api.tests.chunks.conftest import Stage, created, sha256, stage_of
from testing.gateway import running_gateway
from testing.http.cluster import RawCluster, Visit
from testing.servers import RedisServer, running_redis
from testing.waiting import wait_until


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def whole_stage(redis: RedisServer) -> Iterator[Stage]:
    """A gateway with a Redis of its own."""
    with RawCluster() as cluster, running_gateway(SESSION_MANAGEMENT_URL=cluster.url, REDIS_URL=redis.url) as gateway:
        yield stage_of(gateway, cluster)


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.cluster.forget()
    whole_stage.cluster.behaviour = created
    return whole_stage


@contextlib.contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Lock the gateway's database against all writers."""
    path = stage.gateway.env["SQLITE_PATH"]
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_no_cluster_is_asked_without_a_database(stage: Stage) -> None:
    session = stage.session()
    with locked(stage):
        answer = stage.upload(session, 0, b"abc")
    assert (answer.status, answer.code, answer.all("retry-after")) == (503, "5002", ["5"])
    assert stage.cluster.requests == []
    assert stage.upload(session, 0, b"abc").status == 201


def test_a_retry_repairs_what_a_database_outage_left(stage: Stage) -> None:
    session = stage.session()
    with contextlib.ExitStack() as lock:

        def accept_and_lock(visit: Visit) -> None:
            lock.enter_context(locked(stage))
            created(visit)

        stage.cluster.behaviour = accept_and_lock
        assert stage.upload(session, 0, b"abc").code == "5002"
    stage.cluster.behaviour = created
    assert stage.upload(session, 0, b"abc").code == "4003"

    def retry() -> int:
        stage.store.end_leases(
            session
        )  # in the loop: a renewal that was waiting for the database may extend a lease again
        return stage.upload(session, 0, b"abc").status

    wait_until(lambda: retry() == 201)
    assert stage.listed(session) == [(0, 3, sha256(b"abc"))]
    assert len(stage.cluster.requests) == 2


def test_uploads_are_recorded_without_redis(stage: Stage, redis: RedisServer) -> None:
    redis.process.terminate()
    redis.process.wait(10)
    session = stage.session()
    answers = [stage.upload(session, index, bytes(100_000)) for index in range(4)]
    assert {answer.status for answer in answers} == {201}
    assert {answer.all("x-ratelimit-limit")[0] for answer in answers} == {"10485760"}
    assert len(stage.listed(session)) == 4
