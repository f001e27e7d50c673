"""The way to Redis, with a real server that is stopped, stalled and started again."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_django.fixtures import Settings
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from lucid_gateway.redis_access import PROBE_EVERY_SECONDS, RedisBreaker, RedisUnavailable, ping, redis_call
from testing.parallel import in_parallel
from testing.servers import RedisServer, free_port, running_redis

pytestmark = pytest.mark.quiet


@pytest.fixture
def server(settings: Settings) -> Iterator[RedisServer]:
    """A server of its own, that this process's client talks to."""
    with running_redis() as server:
        default = settings.CACHES["default"]
        settings.CACHES = {"default": default | {"LOCATION": server.url}}
        assert ping()
        yield server


def stop(server: RedisServer) -> None:
    server.process.kill()
    server.process.wait()


def seconds(command: Callable[[], object]) -> float:
    """Return how long it takes to learn that Redis is unavailable."""
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        command()
    return time.monotonic() - started


def test_a_dead_redis_is_found_out_at_once(server: RedisServer) -> None:
    stop(server)

    assert seconds(ping) < 0.1


def test_an_open_breaker_costs_next_to_nothing_and_does_not_connect(server: RedisServer) -> None:
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


def test_a_redis_that_restarted_between_two_calls_is_no_failure(server: RedisServer) -> None:
    stop(server)

    with running_redis(server.port):
        assert ping()


def test_a_stalled_redis_costs_one_timeout_and_then_nothing(server: RedisServer) -> None:
    server.process.send_signal(signal.SIGSTOP)
    try:
        assert 0.2 < seconds(ping) < 0.6
        assert sum(seconds(ping) for _ in range(20)) < 0.1
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_an_error_of_redis_is_unavailability(server: RedisServer) -> None:
    redis_call(lambda redis: redis.config_set("maxmemory", "1"))

    with pytest.raises(RedisUnavailable) as caught:
        redis_call(lambda redis: redis.set("key", "value"))

    assert isinstance(caught.value.__cause__, ResponseError)


def refuse() -> None:
    raise RedisError


class Probe:
    """A probe that fails until it is told not to."""

    def __init__(self) -> None:
        self.asked = 0
        self.threads: set[int] = set()
        self.succeeds = False

    def __call__(self) -> None:
        self.asked += 1
        self.threads.add(threading.get_ident())
        if not self.succeeds:
            raise RedisError


def opened(probe: Probe, times: int = 1) -> RedisBreaker:
    """Return a breaker after so many calls that failed at the same time."""
    breaker = RedisBreaker(probe, probe_every=0.01)
    together = threading.Barrier(times)

    def fail() -> None:
        together.wait()
        refuse()

    in_parallel(times, lambda _: seconds(lambda: breaker.call(fail)))
    return breaker


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_calls_fail_until_a_probe_succeeds_and_then_nothing_probes_any_more() -> None:
    probe = Probe()
    breaker = opened(probe)
    until(lambda: probe.asked > 3)
    seconds(lambda: breaker.call(lambda: "never asked"))

    probe.succeeds = True
    until(lambda: breaker.outage is None)

    assert breaker.call(lambda: "asked") == "asked"
    asked = probe.asked
    time.sleep(0.05)
    assert probe.asked == asked


def test_one_probe_runs_however_many_calls_fail_at_once() -> None:
    probe = Probe()
    breaker = opened(probe, times=8)

    until(lambda: probe.asked > 10)

    breaker.outage = None
    assert len(probe.threads) == 1


def test_a_call_that_fails_after_the_recovery_opens_the_breaker_again() -> None:
    probe = Probe()
    probe.succeeds = True
    breaker = opened(probe)
    until(lambda: breaker.outage is None)
    probe.succeeds = False

    seconds(lambda: breaker.call(refuse))

    seconds(lambda: breaker.call(lambda: "never asked"))
    breaker.outage = None


@pytest.mark.parametrize("fault", ["full", "a replica"])
def test_a_server_that_takes_no_writes_is_not_taken_for_recovered(server: RedisServer, fault: str) -> None:
    def configure(redis: Redis) -> None:
        redis.config_set("maxmemory", "1") if fault == "full" else redis.replicaof("127.0.0.1", str(free_port()))

    redis_call(configure)
    seconds(lambda: redis_call(lambda redis: redis.set("key", "value")))

    time.sleep(PROBE_EVERY_SECONDS * 2)

    seconds(ping)


def test_an_error_of_our_own_does_not_open_the_breaker() -> None:
    breaker = RedisBreaker(Probe())

    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)

    assert breaker.call(lambda: "still closed") == "still closed"
