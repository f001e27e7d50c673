"""A gateway's behaviour and log while its Redis is down, slow or misconfigured."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from accounts.models import User
from accounts.tests.operators import signed_in
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import redis_client, single_server
from lucid_gateway.kernel.redis.server import ClusterNode, OwnConnection, Probe
from lucid_gateway.kernel.redis.watch import check_eviction_policy, eviction_of
from ratelimit.tests.crowd import bearer, converse, get
from ratelimit.tests.relay import Relay, running_relay
from testing.gateway import Gateway, refusal, running_gateway
from testing.http.client import request_bytes
from testing.redis_cluster import free_pair, running_node
from testing.servers import ROOT, RedisServer, running_redis
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet

WORKERS = 2
LOGIN = request_bytes(
    "POST", "/api/v1/auth/login", "Content-Type: application/json", body=b'{"email": "demo@lucid.test"}'
)
GONE, BACK = "Redis is unavailable", "Redis is available again"
EVICTS = "Redis evicts keys (maxmemory-policy allkeys-lru): a revoked token could work again. Set it to noeviction."
BUSY_PROCESS = """
from gevent import monkey
monkey.patch_all()
import gevent, json, os, time
os.environ["DJANGO_SETTINGS_MODULE"] = "lucid_gateway.settings"
from lucid_gateway.kernel.redis.access import single_server
from lucid_gateway.kernel.redis.server import Probe

def work_without_a_pause():
    while True:
        ends = time.monotonic() + 0.25
        while time.monotonic() < ends:
            pass
        gevent.sleep(0.001)

probe = Probe(single_server, lambda: ("PING",))
probe()
gevent.spawn(work_without_a_pause)
print(json.dumps([probe() for _ in range(3)]))
"""

DROPPED_UNDER_LOAD = """
from gevent import monkey
monkey.patch_all()
import gevent, json, os, pathlib, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "lucid_gateway.settings"
from lucid_gateway.kernel.redis.access import RedisUnavailable, breaker, ping, single_server
from lucid_gateway.kernel.redis.script import RedisScript

script = RedisScript(pathlib.Path("ratelimit/engine/admit.lua"))
ends, found = time.monotonic() + 2, {}

def call(command):
    while time.monotonic() < ends:
        try:
            command()
            outcome = "ok"
        except RedisUnavailable:
            outcome = "unavailable"
        except Exception as error:
            outcome = repr(error)
        found[outcome] = found.get(outcome, 0) + 1
        gevent.sleep(0)

def drop():
    while time.monotonic() < ends:
        gevent.sleep(0.02)
        single_server.drop_connections()
        breaker.outage = None

numbers = [0, 0, "", 0, 0, "", 0, 0, 0, 0]
jobs = [gevent.spawn(call, lambda: script(["a", "b", "c"], numbers)) for _ in range(40)]
gevent.joinall([gevent.spawn(drop), *jobs, *[gevent.spawn(call, ping) for _ in range(40)]])
sys.stderr.write(json.dumps(sorted(found)))
"""


@dataclass(frozen=True)
class Stage:
    """A gateway with a relay in front of its Redis, which may evict keys."""

    gateway: Gateway
    server: RedisServer
    relay: Relay
    token: str

    def lines(self) -> list[str]:
        """Return the log's lines about Redis, and all other warnings, in order."""
        found = [json.loads(line) for line in self.gateway.logged().splitlines() if line.startswith("{")]
        return [line.get("advice", line["event"]) for line in found if line["level"] in ("warning", "error")]

    def counted(self, skipped: int) -> Counter[str]:
        """Return how many of the later lines report that Redis is down, that it is back, or something else."""
        kinds = [next((kind for kind in (GONE, BACK) if line.startswith(kind)), line) for line in self.lines()]
        return Counter(kinds[skipped:])

    def seconds(self, requests: int) -> list[float]:
        """Return the seconds that each of several requests takes, after checking that all are served."""
        times = []
        for _ in range(requests):
            started = time.monotonic()
            assert [
                answer.status for answer in converse(self.gateway.port, [get("/users/me", bearer(self.token))])
            ] == [200]
            times.append(time.monotonic() - started)
        return times


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with ExitStack() as stack:
        server = stack.enter_context(running_redis())
        with Redis(port=server.port) as redis:
            redis.config_set("maxmemory-policy", "allkeys-lru")
        relay = stack.enter_context(running_relay(server.port))
        redis_url = f"redis://127.0.0.1:{relay.port}/0"
        gateway = stack.enter_context(running_gateway(REDIS_URL=redis_url, REDIS_TIMEOUT_SECONDS="0.3"))
        yield Stage(gateway, server, relay, gateway.issue_token("demo@lucid.test"))


def test_each_worker_logs_an_outage_and_its_end_once(stage: Stage) -> None:
    stage.seconds(20)
    before = len(stage.lines())

    os.kill(stage.server.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: stage.counted(before)[GONE] == WORKERS)
        stage.seconds(20)
        assert [answer.status for answer in converse(stage.gateway.port, [LOGIN] * 5)] == [503] * 5
        time.sleep(1)
    finally:
        os.kill(stage.server.process.pid, signal.SIGCONT)
    wait_until(lambda: stage.counted(before)[BACK] == WORKERS)
    stage.seconds(20)

    assert stage.counted(before) == {GONE: WORKERS, BACK: WORKERS}


def test_a_slow_redis_is_not_used_until_it_is_fast_again(stage: Stage) -> None:
    before = len(stage.lines())
    stage.relay.delay = 0.25
    started = time.monotonic()
    try:
        wait_until(lambda: stage.counted(before)[GONE] == WORKERS)
        noticed = time.monotonic() - started
        times = stage.seconds(20)
        time.sleep(1)
        assert stage.counted(before) == {GONE: WORKERS}
    finally:
        stage.relay.delay = 0.0
    wait_until(lambda: stage.counted(before)[BACK] == WORKERS)

    assert noticed < 10
    assert statistics.median(times) < 0.15
    assert stage.counted(before) == {GONE: WORKERS, BACK: WORKERS}


def test_an_eviction_policy_is_a_warning_in_the_log_and_health(stage: Stage) -> None:
    wait_until(lambda: stage.lines().count(EVICTS) == WORKERS)
    time.sleep(1.5)
    answer = converse(stage.gateway.port, [get("/meta/health")])[0]

    assert json.loads(answer.body)["warnings"] == [EVICTS]
    assert stage.lines().count(EVICTS) == WORKERS


def test_the_warning_ends_with_the_policy(caplog: pytest.LogCaptureFixture) -> None:
    try:
        for policy in ("allkeys-lru", "allkeys-lru", "noeviction"):
            redis_client().config_set("maxmemory-policy", policy)
            check_eviction_policy(single_server)
            assert advisories.texts() == ([EVICTS] if policy == "allkeys-lru" else [])
    finally:
        redis_client().config_set("maxmemory-policy", "noeviction")
        advisories.clear(eviction_of(single_server))

    assert [record.__dict__["advice"] for record in caplog.records if record.levelname == "WARNING"] == [EVICTS]


def test_operators_see_the_warnings_on_the_index_page(super_admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advisories, "_texts", {eviction_of(single_server): EVICTS})
    browser = signed_in(super_admin)

    pages = [browser.get("/admin/").content.decode() for _ in range(2)]

    assert [page.count(EVICTS) for page in pages] == [1, 1]


@pytest.mark.parametrize(("delay", "is_fast"), [(0.05, True), (0.2, False)])
def test_an_answer_is_slow_from_150_ms(settings: Settings, delay: float, is_fast: bool) -> None:
    with running_redis() as server, running_relay(server.port) as relay:
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": f"redis://127.0.0.1:{relay.port}/0"}}
        probe = Probe(single_server, lambda: ("PING",))
        probe()
        relay.delay = delay

        assert [probe() for _ in range(3)].count(is_fast) >= 2


def test_a_restart_of_redis_between_two_probes_is_not_an_outage(settings: Settings) -> None:
    with running_redis() as server:
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": server.url}}
        probe = Probe(single_server, lambda: ("PING",))
        probe()
        server.process.kill()
        server.process.wait()

        with running_redis(server.port):
            probe()


def test_a_busy_worker_does_not_blame_redis() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY_PROCESS], check=True, capture_output=True, text=True, cwd=ROOT)

    assert json.loads(done.stdout) == [True] * 3


def test_a_dropped_connection_always_raises_redis_unavailable() -> None:
    command = [sys.executable, "-c", DROPPED_UNDER_LOAD]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)

    assert json.loads(done.stderr.splitlines()[-1]) == ["ok", "unavailable"]


def test_a_node_of_a_redis_cluster_is_refused_with_a_one_line_message(settings: Settings) -> None:
    with running_node(free_pair()) as node:
        line = refusal(REDIS_URL=node.url)
        settings.CACHES = {"default": settings.CACHES["default"] | {"LOCATION": node.url}}
        with pytest.raises(ClusterNode):
            OwnConnection(single_server).open()

    assert line == (
        "LUCID_ERR_5004 configuration error: REDIS_URL: leads to a node of a Redis Cluster; "
        "expected redis+cluster://host:port,host:port\n"
    )


def test_a_single_server_is_refused_as_a_cluster_with_a_one_line_message() -> None:
    with running_redis() as server:
        line = refusal(REDIS_URL=f"redis+cluster://127.0.0.1:{server.port}")

    assert line == (
        "LUCID_ERR_5004 configuration error: REDIS_URL: leads to a single server; "
        "expected a node of a Redis Cluster, or redis:// instead of redis+cluster://\n"
    )


def test_a_cluster_with_missing_slots_is_refused_with_a_one_line_message() -> None:
    with running_node(free_pair()) as node, Redis(port=node.port) as redis:
        redis.execute_command("CLUSTER", "ADDSLOTS", *range(100, 16_000))  # type: ignore[no-untyped-call]
        line = refusal(REDIS_URL=f"redis+cluster://127.0.0.1:{node.port}")

    assert line == (
        "LUCID_ERR_5004 configuration error: REDIS_URL: leads to a Redis Cluster without a node for the slots 0-99, "
        "16000-16383; expected one for each of the 16384 slots\n"
    )
