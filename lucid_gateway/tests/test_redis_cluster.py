"""Calls of this process to a real Redis Cluster of three masters, whose slots move."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings
from redis import Redis, SSLConnection

import lucid_gateway.settings
from accounts.tokens.revocation.gates import gates
from lucid_gateway.console import health_strip
from lucid_gateway.console.alarms.systems import lost_redis
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import (
    Outage,
    RedisCallFailed,
    RedisUnavailable,
    cluster,
    redis_call,
    server_of,
    servers,
)
from lucid_gateway.kernel.redis.cluster import RedisCluster, missing_slots
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.redis.slots import SLOTS, slot_of, tags
from lucid_gateway.kernel.redis.watch import COVERAGE, WHOLE_OR_NOTHING, RedisWatch
from lucid_gateway.policy import keys
from lucid_gateway.policy.roles import Role
from lucid_gateway.settings import redis_cluster
from ratelimit.engine.limiter import question
from ratelimit.engine.limits import RequestLimit
from testing.redis_cluster import ClusterOfServers, client, node_id, running_redis_cluster
from testing.servers import RedisServer, free_port
from testing.waiting import wait_until

INCREMENT = "return redis.call('INCR', KEYS[1])"
BOTH = "return {redis.call('INCR', KEYS[1]), redis.call('EXISTS', KEYS[2])}"


@pytest.fixture(scope="module")
def nodes() -> Iterator[ClusterOfServers]:
    with running_redis_cluster(3) as found:
        yield found


@pytest.fixture
def routed(nodes: ClusterOfServers, settings: Settings) -> Iterator[RedisCluster]:
    """This process uses the cluster, of which it was told one node."""
    pool = {"max_connections": 4, "timeout": 2, "protocol": 2, "socket_timeout": 0.7, "socket_connect_timeout": 0.7}
    settings.REDIS_CLUSTER = ([("127.0.0.1", nodes.masters[0].port)], pool)
    cluster.cache_clear()
    nodes.empty()
    found = cluster()
    assert found is not None
    yield found
    for server in (found.nowhere, *found.known.values()):
        server.retire()
    settings.REDIS_CLUSTER = None
    cluster.cache_clear()


@pytest.fixture
def increment(tmp_path: Path) -> RedisScript:
    return script(tmp_path, INCREMENT)


def script(folder: Path, text: str) -> RedisScript:
    (folder / "script.lua").write_text(text)
    return RedisScript(folder / "script.lua")


def other_master(nodes: ClusterOfServers, key: str) -> RedisServer:
    """Return a master that does not have the key."""
    return next(master for master in nodes.masters if master != nodes.master_of(key))


def commands_of(server: RedisServer) -> int:
    """Return how many scripts the server was asked to run."""
    with client(server) as redis:
        return int(redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


@given(st.text(alphabet=st.sampled_from("ab{}:é"), max_size=12))
def test_slots_are_those_of_redis(nodes: ClusterOfServers, key: str) -> None:
    with client(nodes.masters[0]) as redis:
        assert slot_of(key) == redis.execute_command("CLUSTER", "KEYSLOT", key)


def test_each_slot_has_a_tag_of_its_own() -> None:
    assert [slot_of(keys.in_slot("name", tag)) for tag in tags()] == list(range(SLOTS))


def test_all_keys_of_a_decision_are_in_one_slot(routed: RedisCluster) -> None:
    limit = RequestLimit("authenticated", 10, 5)
    for number in range(50):
        caller = Caller(f"user-{number}", Role.USER, "jti", "family", 0, 1)
        names, _ = question(limit, caller.subject, gates(caller))

        assert {slot_of(name) for name in names} == {slot_of(keys.user(caller.user_id))}


def test_each_key_is_asked_of_its_master(nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript) -> None:
    names = [f"key {number}" for number in range(30)]
    for name in names:
        redis_call(name, lambda redis, name=name: redis.set(name, 1))  # type: ignore[misc]

    assert [increment([name], []) for name in names] == [2] * 30
    assert {server_of(name).address[1] for name in names} == {master.port for master in nodes.masters}
    assert all(server_of(name).address[1] == nodes.master_of(name).port for name in names)


def test_a_slot_that_was_moved_is_followed(
    nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript
) -> None:
    before, after = nodes.master_of("moved"), other_master(nodes, "moved")
    assert increment(["moved"], []) == 1
    nodes.move_slot(slot_of("moved"), after)

    assert increment(["moved"], []) == 2
    asked = commands_of(before)
    assert increment(["moved"], []) == 3  # without a detour
    assert commands_of(before) == asked
    assert redis_call("moved", lambda redis: redis.get("moved")) == b"3"
    nodes.move_slot(slot_of("moved"), before)
    assert redis_call("moved", lambda redis: redis.get("moved")) == b"3"


def test_a_script_with_one_key_works_while_its_slot_is_being_moved(
    nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript
) -> None:
    names = ["{half}:stays", "{half}:moves"]
    assert [increment([name], []) for name in names] == [1, 1]
    with nodes.moving(slot_of("{half}"), other_master(nodes, "{half}")) as move:
        move.take("{half}:moves")

        assert [increment([name], []) for name in (*names, "{half}:new")] == [2, 2, 1]

    assert [increment([name], []) for name in (*names, "{half}:new")] == [3, 3, 2]


def test_what_needs_keys_on_both_nodes_of_a_move_waits_for_its_end(
    nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript, tmp_path: Path
) -> None:
    (tmp_path / "both").mkdir()
    both, names = script(tmp_path / "both", BOTH), ["{two}:moves", "{two}:stays"]
    assert [increment([name], []) for name in names] == [1, 1]
    with nodes.moving(slot_of("{two}"), other_master(nodes, "{two}")) as move:
        move.take("{two}:moves")
        with pytest.raises(RedisCallFailed):
            both(names, [])
        with pytest.raises(RedisCallFailed):
            redis_call(names[0], lambda redis: redis.get(names[0]))
        assert increment(["another slot"], []) == 1  # nothing else is concerned

        ending = threading.Timer(0.05, move.finish)
        ending.start()
        assert both(names, []) == [2, 1]
        ending.join()


def test_a_hung_master_costs_the_callers_of_its_keys_one_timeout_and_nobody_else_anything(
    nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript
) -> None:
    server = nodes.master_of("hung")
    lost, others = server_of("hung"), [one for one in servers() if one is not server_of("hung")]
    names = [f"key {number}" for number in range(30)]
    alive = [name for name in names if server_of(name) is not lost]
    for name in names:
        increment([name], [])
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RedisUnavailable):
            increment(["hung"], [])
        assert lost.breaker.outage
        with pytest.raises(RedisUnavailable):
            redis_call("hung", lambda redis: redis.get("hung"))
        assert [increment([name], []) for name in alive] == [2] * len(alive)
        assert not any(one.breaker.outage for one in others)
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    wait_until(lambda: lost.breaker.outage is None)

    assert increment(["hung"], []) >= 1


def test_the_outage_of_a_master_ends_when_others_have_its_slots(
    routed: RedisCluster, caplog: pytest.LogCaptureFixture
) -> None:
    lost, other, _ = servers()
    lost.breaker.open("for a test")
    routed.use([other if server is lost else server for server in routed.table])
    try:
        assert [record.message.split(" after ")[0] for record in caplog.records] == [
            "Redis is unavailable", "Redis is available again"
        ]  # fmt: skip
        assert lost.breaker.outage is None
    finally:
        routed.owners = {}
        routed.follow()


def test_keys_of_two_slots_in_one_call_are_a_failure_of_the_call(
    routed: RedisCluster, increment: RedisScript, tmp_path: Path
) -> None:
    table = list(routed.table)
    with pytest.raises(RedisUnavailable):
        increment(["one", "two"], [])
    with pytest.raises(RedisUnavailable):
        redis_call("one", lambda redis: [redis.get(name) for name in ("one", "two", "three", "four")])

    assert routed.table == table


def test_a_slot_without_a_node_fails_its_callers_alone(
    nodes: ClusterOfServers, routed: RedisCluster, increment: RedisScript
) -> None:
    lost = nodes.master_of("lost")
    for master in nodes.masters:
        with client(master) as redis:
            redis.execute_command("CLUSTER", "DELSLOTS", slot_of("lost"))
    routed.follow()
    try:
        assert missing_slots(routed.ask()) == [(slot_of("lost"), slot_of("lost"))]
        with pytest.raises(RedisUnavailable):
            increment(["lost"], [])
        assert increment(["kept"], []) == 1
    finally:
        for master in nodes.masters:
            with client(master) as redis:
                redis.execute_command("CLUSTER", "SETSLOT", slot_of("lost"), "NODE", identity(lost))
    wait_until(lambda: follows(routed))

    assert increment(["lost"], []) == 1


def identity(server: RedisServer) -> str:
    with client(server) as redis:
        return node_id(redis)


def follows(routed: RedisCluster) -> bool:
    RedisWatch().check()
    return routed.nowhere not in servers()


def test_the_password_of_the_url_is_that_of_each_node(
    nodes: ClusterOfServers, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = nodes.url.replace("://", "://:s%40cret@")
    monkeypatch.setattr(lucid_gateway.settings, "ENV", settings.ENV.model_copy(update={"REDIS_URL": url}))
    found = RedisCluster(*redis_cluster())
    for master in nodes.masters:
        with client(master) as redis:
            redis.config_set("requirepass", "s@cret")
    try:
        found.follow()
        names = [f"key {number}" for number in range(30)]
        answers = {found.server_of(name): found.server_of(name).client().set(name, 1) for name in names}
        assert [*answers.values()] == [True] * 3
    finally:
        for master in nodes.masters:
            with Redis(port=master.port, password="s@cret") as redis:
                redis.config_set("requirepass", "")
        for server in found.known.values():
            server.retire()


def test_a_cluster_of_which_no_node_answers_is_unavailable() -> None:
    tls = {"connection_class": SSLConnection, "ssl_ca_certs": "/nowhere.pem", "socket_connect_timeout": 0.1}
    found = RedisCluster([("127.0.0.1", free_port())], tls)
    found.follow()

    with pytest.raises(RedisUnavailable):
        found.call("key", lambda server, _: server.client().get("key"))
    found.nowhere.retire()


def test_operators_see_which_part_of_the_cluster_is_lost(routed: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (lost, *others), outage = servers(), Outage()
    monkeypatch.setattr(lost.breaker, "outage", outage)
    assert [alarm.title for alarm in lost_redis()] == [f"A part of the Redis Cluster is unavailable: {lost}"]
    assert health_strip.redis().words == "1 node unavailable"

    for other in others:
        monkeypatch.setattr(other.breaker, "outage", outage)
    assert [alarm.title for alarm in lost_redis()] == ["Redis is unavailable"]
    assert health_strip.redis().words == "unavailable"


def test_missing_slots_are_named_in_ranges() -> None:
    node = ("127.0.0.1", 6379)

    assert missing_slots({(0, 16_383): node}) == []
    assert missing_slots({(10, 99): node, (200, 16_000): node}) == [(0, 9), (100, 199), (16_001, 16_383)]
    assert missing_slots({}) == [(0, 16_383)]


def test_a_cluster_that_refuses_as_a_whole_is_a_warning(nodes: ClusterOfServers, routed: RedisCluster) -> None:
    watch = RedisWatch()
    with client(nodes.masters[1]) as redis:
        for coverage in ("yes", "yes", "no"):
            redis.config_set(COVERAGE, coverage)
            watch.check()
            for of_server in watch.of_servers.values():
                of_server.checks = 0  # so that the next check is a thorough one
            warned = WHOLE_OR_NOTHING.format(f"127.0.0.1:{nodes.masters[1].port}", COVERAGE)
            assert advisories.texts() == ([warned] if coverage == "yes" else [])
