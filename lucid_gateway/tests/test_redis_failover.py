"""A process that notices a failover only through its own calls, with a real Sentinel group."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.redis.access import RedisUnavailable, breaker, redis_call, single_server
from lucid_gateway.kernel.redis.connections import Primary, PrimaryConnection, timeout_options
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.redis.server import MAX_CONNECTIONS
from lucid_gateway.kernel.redis.watch import ServerWatch
from testing.sentinel import GROUP, SentinelGroup, running_sentinel_group
from testing.waiting import wait_until

pytestmark = pytest.mark.quiet


@pytest.fixture
def group(settings: Settings) -> Iterator[SentinelGroup]:
    """A Sentinel group, which this process's client uses."""
    with running_sentinel_group() as group:
        default = settings.CACHES["default"]
        pool = default["OPTIONS"]["CONNECTION_POOL_KWARGS"] | {
            "connection_class": PrimaryConnection,
            "primary": Primary([("127.0.0.1", group.sentinel_port)], GROUP, seconds=0.3),
            **timeout_options(0.3),
        }
        options = default["OPTIONS"] | {"CONNECTION_POOL_KWARGS": pool}
        # Each location has its own pool; the host name is never resolved.
        location = f"redis://sentinel-{group.sentinel_port}/0"
        settings.CACHES = {"default": default | {"LOCATION": location, "OPTIONS": options}}
        vars(single_server).pop("connections", None)
        yield group
        vars(single_server).pop("connections", None)
        breaker.outage = None


@pytest.fixture
def write(group: SentinelGroup, tmp_path: Path) -> RedisScript:
    """A script that increments a key; it has used each connection once."""
    (tmp_path / "write.lua").write_text("return redis.call('INCR', KEYS[1])")
    script = RedisScript(tmp_path / "write.lua")
    for _ in range(MAX_CONNECTIONS):
        script(["number"], [])
    assert redis_call("number", lambda redis: redis.ping())
    return script


def works(script: RedisScript) -> bool:
    try:
        return bool(script(["after"], []))
    except RedisUnavailable:
        return False


def look(group: SentinelGroup) -> None:
    """Ask Sentinel as each worker does twice a second, while the old primary does not yet know that it was replaced."""
    ServerWatch(single_server).follow_primary()


def be_refused(group: SentinelGroup) -> None:
    """Make the old primary a replica, as Sentinel will, but without closing its connections as Sentinel does."""
    with Redis(port=group.first.port) as first:
        first.replicaof("127.0.0.1", group.second.port)


@pytest.mark.parametrize("notice", [look, be_refused])
def test_a_detected_failover_costs_at_most_one_outage(
    group: SentinelGroup, write: RedisScript, notice: Callable[[SentinelGroup], None]
) -> None:
    outages = breaker.outages
    group.fail_over()
    group.wait_for_failover()
    notice(group)

    wait_until(lambda: works(write), seconds=3)
    assert all(works(write) for _ in range(MAX_CONNECTIONS * 2))

    assert breaker.outages - outages <= 1
    with Redis(port=group.second.port) as redis:
        assert int(redis.get("after") or 0) > MAX_CONNECTIONS * 2
