"""Connections to Redis, and the primary of a Sentinel group, with real Sentinels."""

import time

import pytest
from pytest_django.fixtures import Settings
from redis.exceptions import ConnectionError as RedisConnectionError

from lucid_gateway.kernel.redis.access import redis_client
from lucid_gateway.kernel.redis.connections import Primary
from testing.sentinel import GROUP, running_sentinel
from testing.servers import free_port, running_redis


def test_the_setting_determines_the_timeout(settings: Settings) -> None:
    options = redis_client().connection_pool.connection_kwargs

    assert options["socket_timeout"] == options["socket_connect_timeout"] == settings.ENV.REDIS_TIMEOUT_SECONDS == 2


def test_a_sentinel_that_missed_the_failover_is_ignored() -> None:
    with running_redis() as old, running_redis() as new, running_sentinel(old.port) as behind:
        with running_sentinel(new.port, epoch=3) as ahead:
            primary = Primary([("127.0.0.1", behind), ("127.0.0.1", ahead)], GROUP, seconds=2)
            assert primary.current() == ("127.0.0.1", new.port)

        primary.forget()
        with pytest.raises(RedisConnectionError, match="no Sentinel names a primary"):
            primary.current()


def test_sentinels_that_were_all_set_up_again_are_trusted() -> None:
    with running_redis() as redis, running_sentinel(redis.port) as sentinel:
        primary = Primary([("127.0.0.1", sentinel)], GROUP, seconds=2)
        primary.epoch = 7

        assert primary.current() == ("127.0.0.1", redis.port)


def test_a_primary_that_is_down_is_not_returned() -> None:
    with running_sentinel(free_port()) as sentinel:
        primary = Primary([("127.0.0.1", sentinel)], GROUP, seconds=2)

        with pytest.raises(RedisConnectionError):
            wait_until_it_is_refused(primary)


def wait_until_it_is_refused(primary: Primary) -> None:
    """Wait until the Sentinel has noticed that the server is down."""
    for _ in range(200):
        primary.ask()
        time.sleep(0.05)
