"""Access to a real Redis that is stopped, stalled and started again."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from lucid_gateway.kernel.redis.access import (
    PROBE_EVERY_SECONDS,
    RedisBreaker,
    RedisCallFailed,
    RedisUnavailable,
    breaker,
    ping,
    redis_call,
    redis_client,
    single_server,
)
from lucid_gateway.kernel.redis.breaker import FAST_PROBES_AFTER_SLOWNESS
from lucid_gateway.kernel.redis.connections import timeout_options
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.redis.server import MAX_CONNECTIONS
from testing.parallel import in_parallel
from testing.servers import RedisServer, free_port, running_redis
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet


@pytest.fixture
def server(settings: Settings) -> Iterator[RedisServer]:
    """A separate server, which this process's client uses."""
    with running_redis() as server:
        default = settings.CACHES["default"]
        pool = default["OPTIONS"]["CONNECTION_POOL_KWARGS"] | timeout_options(0.3)
        options = default["OPTIONS"] | {"CONNECTION_POOL_KWARGS": pool}
        settings.CACHES = {"default": default | {"LOCATION": server.url, "OPTIONS": options}}
        assert ping()
        yield server


def stop(server: RedisServer) -> None:
    server.process.kill()
    server.process.wait()


def seconds(command: Callable[[], object]) -> float:
    """Return the seconds until the command raises RedisUnavailable."""
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        command()
    return time.monotonic() - started


def test_a_dead_redis_is_detected_immediately(server: RedisServer) -> None:
    stop(server)

    assert seconds(ping) < 0.1


def test_an_open_breaker_costs_almost_nothing_and_does_not_connect(server: RedisServer) -> None:
    stop(server)
    seconds(ping)
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        listener.setblocking(False)

        assert sum(seconds(ping) for _ in range(100)) < PROBE_EVERY_SECONDS / 2
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_restarted_redis_is_used_again_within_a_second(server: RedisServer) -> None:
    stop(server)
    seconds(ping)

    with running_redis(server.port):
        deadline = time.monotonic() + 1
        while True:
            try:
                assert ping()
                break
            except RedisUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_a_restart_of_redis_between_two_calls_is_not_a_failure(server: RedisServer) -> None:
    stop(server)

    with running_redis(server.port):
        assert ping()


def test_a_stalled_redis_costs_only_one_timeout(server: RedisServer) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        assert 0.2 < seconds(ping) < 0.6
        assert sum(seconds(ping) for _ in range(20)) < 0.1
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_an_error_of_a_full_redis_raises_redis_unavailable(server: RedisServer) -> None:
    redis_call("key", lambda redis: redis.config_set("maxmemory", "1"))

    with pytest.raises(RedisUnavailable) as caught:
        redis_call("key", lambda redis: redis.set("key", "value"))

    assert isinstance(caught.value.__cause__, ResponseError)


def refuse() -> None:
    raise RedisError


class Probe:
    """A probe that fails until `succeeds` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads: set[int] = set()
        self.succeeds = False
        self.fast: list[bool] = []

    def __call__(self) -> bool:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if not self.succeeds:
            raise RedisError
        return self.fast.pop(0) if self.fast else True


def opened(probe: Probe, times: int = 1) -> RedisBreaker:
    """Return a breaker that is open after `times` concurrent failures."""
    breaker = RedisBreaker(probe, probe_every=0.01)
    together = threading.Barrier(times)

    def fail() -> None:
        together.wait()
        refuse()

    in_parallel(times, lambda _: seconds(lambda: breaker.call(fail)))
    return breaker


def test_calls_fail_until_a_probe_succeeds_which_ends_the_probing() -> None:
    probe = Probe()
    breaker = opened(probe)
    wait_until(lambda: probe.asked > 3)
    seconds(lambda: breaker.call(lambda: "never asked"))

    probe.succeeds = True
    wait_until(lambda: breaker.outage is None)

    assert breaker.call(lambda: "asked") == "asked"
    asked = probe.asked
    time.sleep(0.05)
    assert probe.asked == asked


def test_only_one_probe_runs_after_concurrent_failures() -> None:
    probe = Probe()
    breaker = opened(probe, times=8)

    wait_until(lambda: probe.asked > 10)

    breaker.outage = None
    assert len(probe.threads) == 1


def test_a_call_that_fails_after_the_recovery_opens_the_breaker_again() -> None:
    probe = Probe()
    probe.succeeds = True
    breaker = opened(probe)
    wait_until(lambda: breaker.outage is None)
    probe.succeeds = False

    seconds(lambda: breaker.call(refuse))

    seconds(lambda: breaker.call(lambda: "never asked"))
    breaker.outage = None


@pytest.mark.parametrize("fault", ["full", "a replica"])
def test_a_server_that_refuses_writes_has_not_recovered(server: RedisServer, fault: str) -> None:
    def configure(redis: Redis) -> None:
        redis.config_set("maxmemory", "1") if fault == "full" else redis.replicaof("127.0.0.1", str(free_port()))

    redis_call("key", configure)
    seconds(lambda: redis_call("key", lambda redis: redis.set("key", "value")))

    time.sleep(PROBE_EVERY_SECONDS * 2)

    seconds(ping)


FAULTS = {
    "is full": {"maxmemory": "1"},
    "lacks replicas": {"min-replicas-to-write": "1"},
    "is a replica": {},
    "is a replica without its primary": {"replica-serve-stale-data": "no"},
}


@pytest.fixture
def write(server: RedisServer, tmp_path: Path) -> Iterator[RedisScript]:
    """A script that increments a key, on connections to the server."""
    (tmp_path / "write.lua").write_text("return redis.call('INCR', KEYS[1])")
    vars(single_server).pop("connections", None)
    yield RedisScript(tmp_path / "write.lua")
    vars(single_server).pop("connections", None)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("by_script", [True, False], ids=["a script", "a command"])
def test_a_server_that_refuses_writes_opens_the_breaker(
    server: RedisServer, write: RedisScript, fault: str, by_script: bool
) -> None:
    write(["number"], [])
    with Redis(port=server.port) as redis:
        for name, value in FAULTS[fault].items():
            redis.config_set(name, value)
        if "replica" in fault.split():
            redis.replicaof("127.0.0.1", str(free_port()))

    seconds(lambda: write(["number"], []) if by_script else redis_call("key", lambda redis: redis.incr("number")))

    assert breaker.outage
    breaker.outage = None


def test_a_command_that_redis_refuses_does_not_open_the_breaker(server: RedisServer, write: RedisScript) -> None:
    redis_call("key", lambda redis: redis.lpush("a list", "value"))

    for call in (lambda: write(["a list"], []), lambda: redis_call("key", lambda redis: redis.incr("a list"))):
        with pytest.raises(RedisCallFailed):
            call()

    assert breaker.outage is None
    assert write(["number"], []) == 1


def test_a_failure_of_each_request_is_logged_once(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(breaker, "failure_logged_at", float("-inf"))
    redis_call("key", lambda redis: redis.lpush("a list", "value"))

    for _ in range(3):
        with pytest.raises(RedisCallFailed):
            redis_call("key", lambda redis: redis.incr("a list"))

    assert [record.getMessage() for record in caplog.records] == ["a call to Redis failed"]


def test_a_busy_process_does_not_open_the_breaker(
    server: RedisServer, write: RedisScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_gateway.kernel.redis.server.WAIT_SECONDS", 0.05)
    monkeypatch.setattr(redis_client().connection_pool, "timeout", 0.05)
    for _ in range(MAX_CONNECTIONS):
        single_server.connections.take()
        redis_client().connection_pool.get_connection()

    for call in (lambda: write(["number"], []), ping):
        with pytest.raises(RedisCallFailed):
            call()

    assert breaker.outage is None


def test_a_call_that_waits_for_a_connection_fails_when_the_breaker_opens(
    server: RedisServer, write: RedisScript
) -> None:
    taken = [single_server.connections.take() for _ in range(MAX_CONNECTIONS)]
    waiting = threading.Thread(target=lambda: seconds(lambda: write(["number"], [])))
    waiting.start()
    breaker.open("a test")
    single_server.connections.give_back(taken[0])

    waiting.join(1)

    assert not waiting.is_alive()
    assert not taken[0].redis.is_connected
    breaker.outage = None


def test_all_connections_are_dropped_when_the_breaker_opens(server: RedisServer, write: RedisScript) -> None:
    for _ in range(MAX_CONNECTIONS):
        write(["number"], [])
    with Redis(port=server.port) as redis:
        assert redis.info("clients")["connected_clients"] > MAX_CONNECTIONS
        breaker.open("a test")
        wait_until(lambda: redis.info("clients")["connected_clients"] <= 2)  # this connection and the probe's
    breaker.outage = None


def test_a_call_that_began_before_an_outage_does_not_begin_another() -> None:
    probe = Probe()
    probe.succeeds = True
    breaker = RedisBreaker(probe, probe_every=0.01)

    def outlive_an_outage() -> None:
        seconds(lambda: breaker.call(refuse))
        wait_until(lambda: breaker.outage is None)
        refuse()

    seconds(lambda: breaker.call(outlive_an_outage))

    assert breaker.outage is None
    assert breaker.outages == 1


def test_a_slow_redis_is_used_again_after_several_fast_answers() -> None:
    probe = Probe()
    breaker = RedisBreaker(probe, probe_every=0.01)
    probe.succeeds = True
    probe.fast = [True] * (FAST_PROBES_AFTER_SLOWNESS - 1) + [False] + [True] * FAST_PROBES_AFTER_SLOWNESS

    breaker.open("slow", fast_probes=FAST_PROBES_AFTER_SLOWNESS)
    wait_until(lambda: breaker.outage is None)

    assert probe.asked == 2 * FAST_PROBES_AFTER_SLOWNESS


def test_an_error_of_the_gateway_does_not_open_the_breaker() -> None:
    breaker = RedisBreaker(Probe())

    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)

    assert breaker.call(lambda: "still closed") == "still closed"
