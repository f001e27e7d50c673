"""The way to Redis, with a real server that is stopped, stalled and started again."""

import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_django.fixtures import Settings
from redis.exceptions import RedisError, ResponseError

from lucid_gateway.redis_access import RETRY_AFTER_SECONDS, RedisBreaker, RedisUnavailable, ping, redis_call
from testing.parallel import in_parallel
from testing.servers import RedisServer, running_redis


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

        assert sum(seconds(ping) for _ in range(100)) < RETRY_AFTER_SECONDS / 2
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


def test_one_call_at_a_time_probes_a_half_open_breaker() -> None:
    now = 100.0
    breaker = RedisBreaker(retry_after=1, clock=lambda: now)
    seconds(lambda: breaker.call(refuse))
    now = 101.0
    asked = []

    def probe() -> str:
        asked.append("probe")
        seconds(lambda: breaker.call(lambda: asked.append("second")))
        return "answer"

    assert breaker.call(probe) == "answer"
    assert asked == ["probe"]
    assert breaker.call(lambda: "closed again") == "closed again"


def test_a_failed_probe_opens_the_breaker_again() -> None:
    now = 100.0
    breaker = RedisBreaker(retry_after=1, clock=lambda: now)
    seconds(lambda: breaker.call(refuse))
    now = 101.0
    seconds(lambda: breaker.call(refuse))
    now = 101.9

    seconds(lambda: breaker.call(lambda: None))


def half_open() -> RedisBreaker:
    """Return a breaker that is due to probe."""
    breaker = RedisBreaker(retry_after=0)
    seconds(lambda: breaker.call(refuse))
    return breaker


def test_calls_beside_a_probe_wait_for_it_and_then_succeed_too() -> None:
    breaker = half_open()

    assert in_parallel(8, lambda _: breaker.call(lambda: time.sleep(0.02) or "answer")) == ["answer"] * 8


def test_calls_beside_a_probe_that_fails_ask_nothing() -> None:
    breaker, asked = half_open(), []
    breaker.retry_after = 60

    def probe() -> None:
        asked.append("probe")
        time.sleep(0.02)
        refuse()

    in_parallel(8, lambda _: seconds(lambda: breaker.call(probe)))

    assert asked == ["probe"]


def test_an_error_of_our_own_does_not_open_the_breaker() -> None:
    breaker = RedisBreaker()

    with pytest.raises(ZeroDivisionError):
        breaker.call(lambda: 1 / 0)

    assert breaker.call(lambda: "still closed") == "still closed"
