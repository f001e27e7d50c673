"""The edge while Redis, the gateway or a worker of nginx is not there."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.tests.edge.conftest import Stage
from testing.gateway import running_gateway
from testing.hammer import front_workers, workers
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit
from testing.http.messages import Cut, Ended
from testing.servers import RedisServer, running_redis
from testing.waiting import wait_until

MORE_THAN_ARE_TAUGHT_AT_A_TIME = 80


@contextlib.contextmanager
def running_stage(redis: RedisServer, **settings: str) -> Iterator[Stage]:
    """Run a gateway and its edge on this Redis; the edge knows the user."""
    with RawCluster() as wallets:
        urls = {"TRON_PAYMENT_URL": wallets.url, "REDIS_URL": redis.url, "REDIS_TIMEOUT_SECONDS": "0.3"}
        with running_gateway(edge=True, WEB_CONCURRENCY="1", **urls, **settings) as gateway:
            stage = Stage(gateway, wallets, wallets, "")
            stage.token = stage.taught("demo@lucid.test")
            yield stage


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of its own, which no other test empties."""
    with running_redis() as server:
        yield server


def kill_gateway(stage: Stage) -> None:
    """Kill the gateway and its workers at once."""
    served = workers(stage.gateway)
    for pid in (stage.gateway.process.pid, *served):
        os.kill(pid, signal.SIGKILL)
    stage.gateway.process.wait()
    wait_until(lambda: not any(is_running(pid) for pid in served))


def is_running(pid: int) -> bool:
    """Return whether the process still runs; one that only waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_stopped_redis_moves_requests_to_the_gateway_and_back(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        redis.process.send_signal(signal.SIGSTOP)
        try:
            answers = [stage.ask() for _ in range(5)]
        finally:
            redis.process.send_signal(signal.SIGCONT)

        assert [answer.status for answer in answers] == [200] * 5
        assert {stage.plane(answer) for answer in answers} == {"gateway"}
        wait_until(lambda: stage.plane(stage.ask()) == "edge", every=0.1)


def test_a_dead_redis_moves_requests_to_the_gateway_and_back() -> None:
    with running_redis() as redis, running_stage(redis) as stage:
        redis.process.kill()
        redis.process.wait()
        answers = [stage.ask() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 5
        assert {stage.plane(answer) for answer in answers} == {"gateway"}

        with running_redis(redis.port):
            wait_until(lambda: stage.plane(stage.ask()) == "edge", every=0.1)


def test_a_flushed_redis_lets_no_revoked_token_pass(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        assert stage.ask("/auth/logout", method="POST").status == 200
        stage.gateway.redis().flushall()

        answers = [stage.ask() for _ in range(5)]

        assert [(answer.status, answer.code) for answer in answers] == [(401, "2003")] * 5


def test_without_the_gateway_known_callers_go_on_and_others_get_503(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        other = stage.gateway.issue_token("operator@lucid.test")
        kill_gateway(stage)

        unknown, known, own = stage.ask(token=other), stage.ask(), stage.ask("/users/me")

        assert (known.status, stage.plane(known)) == (200, "edge")
        for answer in (unknown, own):
            assert (answer.status, answer.code, answer.header("Retry-After")) == (503, "5008", "5")


def test_without_the_gateway_the_last_snapshot_serves_however_old_it_is(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        kill_gateway(stage)
        client = stage.gateway.redis()
        wait_until(lambda: not list(client.scan_iter("*edge:snapshot")))  # it expires after ten seconds

        assert [stage.ask().status for _ in range(3)] == [200] * 3


def test_a_revocation_holds_although_the_gateway_is_gone(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        stage.gateway.manage("revoke_tokens", "--email", "demo@lucid.test")
        kill_gateway(stage)

        assert stage.ask().status == 503  # no gateway could say that it is 401


def test_callers_whom_the_gateway_missed_are_taught_when_it_is_back(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        socket = Path(stage.gateway.env["GATEWAY_SOCKET"])
        away, other = socket.with_suffix(".away"), stage.gateway.issue_token("operator@lucid.test")
        socket.rename(away)
        # Open connections to the gateway last until they were idle for four seconds.
        wait_until(lambda: stage.ask(token="unknown").status == 503, every=5)
        missed = [stage.ask(token=token).status for token in (other, *map(str, range(MORE_THAN_ARE_TAUGHT_AT_A_TIME)))]
        away.rename(socket)

        assert set(missed) == {503}
        wait_until(lambda: stage.plane(stage.ask(token=other)) == "edge")


class Fire:
    """Requests, so many on each connection, one after another, until it is told to stop. `longest` is in seconds."""

    def __init__(self, stage: Stage, each: int) -> None:
        self.stage, self.each, self.found = stage, each, Counter[str]()
        self.longest = 0.0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(4)]

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                with RawClient(self.stage.gateway.port, self.stage.token) as client:
                    for _ in range(self.each):
                        started = time.monotonic()
                        self.found[str(client.ask("GET", "/wallets").status)] += 1
                        self.longest = max(self.longest, time.monotonic() - started)
            except (Cut, Ended, OSError) as error:
                self.found[type(error).__name__] += 1

    def __enter__(self) -> "Fire":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def test_a_reload_of_nginx_loses_no_request_and_no_lesson(redis: RedisServer) -> None:
    with running_stage(redis, RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE="100000") as stage:
        assert stage.gateway.nginx is not None
        (worker,) = front_workers(stage.gateway)
        # Of a connection that is used again, nginx may close its end just before the next request.
        with Fire(stage, each=1) as fire:
            stage.gateway.nginx.send_signal(signal.SIGHUP)
            wait_until(lambda: worker not in front_workers(stage.gateway))
            before = fire.found["200"]
            wait_until(lambda: fire.found["200"] > before + 50)

        assert fire.found.keys() == {"200"}
        assert stage.plane(stage.ask()) == "edge"


def test_a_killed_worker_of_nginx_loses_only_its_connections(redis: RedisServer) -> None:
    with running_stage(redis) as stage:
        assert stage.gateway.nginx is not None
        with Fire(stage, each=5) as fire:
            (worker,) = front_workers(stage.gateway)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: [pid for pid in front_workers(stage.gateway) if pid != worker])
            before = fire.found["200"]
            wait_until(lambda: fire.found["200"] > before + 50)

        lost = sum(count for outcome, count in fire.found.items() if outcome != "200")
        assert lost <= 8
        assert stage.plane(stage.ask()) == "edge"  # a new worker knows what the others were taught


@pytest.mark.parametrize(("held", "free"), [("/wallets/held", "/wallets/free/"), ("/wallets/held/", "/wallets/free")])
def test_places_taken_at_one_plane_are_taken_at_the_other(redis: RedisServer, held: str, free: str) -> None:
    go_on = threading.Event()

    def behave(visit: Visit) -> None:
        if "held" in visit.request.target:
            go_on.wait(60)
        visit.send(OK)

    with running_stage(redis, CLUSTER_MAX_IN_FLIGHT="6") as stage, contextlib.ExitStack() as opened:
        stage.wallets.behaviour = behave
        for _ in range(6):  # a slash at the end is for the gateway
            client = opened.enter_context(RawClient(stage.gateway.port, stage.token))
            client.send(client.head("GET", held))
        wait_until(lambda: sum("held" in request.target for request in stage.wallets.requests) == 6)

        wait_until(lambda: stage.ask(free).status == 503, every=0.1)
        go_on.set()
        wait_until(lambda: stage.ask(free).status == 200, every=0.1)
