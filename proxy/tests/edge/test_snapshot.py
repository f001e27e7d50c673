"""What the gateway tells its edge about clusters, addresses and settings."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis

from conftest import ApiClient
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.policy import keys
from proxy.choosing.instances import InstanceState, states_of
from proxy.clusters import Instance, configured
from proxy.connection.resolver import Lookup, resolver
from proxy.edge.publishing import Publisher
from proxy.edge.snapshot import address_facts, can_forward_to, cluster_facts, security_fields, snapshot
from proxy.operators.closing import close_cluster
from ratelimit.rules import rules_cache
from ratelimit.ruling import lift_address_rule, set_address_rule


@pytest.fixture
def states(twins: tuple[Instance, Instance]) -> Iterator[tuple[InstanceState, ...]]:
    """The states of the two instances of blockchain_core, whose names resolve."""
    for number, one in enumerate(twins, 1):
        resolver.cache[one] = Lookup(((2, (f"192.0.2.{number}", one.port)),), float("inf"))
    states_of.cache_clear()
    yield states_of(configured()["blockchain_core"])
    states_of.cache_clear()
    resolver.cache.clear()


def usable() -> list[str]:
    """Return the addresses of the instances that the edge may use."""
    facts = cluster_facts(configured()["blockchain_core"])
    return [f"{one['host']}:{one['port']}" for one in facts["instances"]]


def test_the_edge_may_use_the_instances_that_work(states: tuple[InstanceState, ...], db: None) -> None:
    assert usable() == ["192.0.2.1:8084", "192.0.2.2:80"]

    states[0].set_health(False)
    assert usable() == ["192.0.2.2:80"]

    states[1].set_health(False)  # if all are unhealthy, the checks may be wrong
    assert usable() == ["192.0.2.1:8084", "192.0.2.2:80"]

    states[0].breaker.open(60)
    assert usable() == ["192.0.2.2:80"]

    close_cluster(cluster="blockchain_core", kind="drain", reason="test", by="test")
    assert usable() == []


def test_the_gateway_asks_for_the_request_that_tries_an_instance_again(states: tuple[InstanceState, ...]) -> None:
    cluster = configured()["blockchain_core"]
    states[0].breaker.open(60)
    assert not cluster_facts(cluster)["probe"]

    states[0].breaker.open(-1)
    assert cluster_facts(cluster)["probe"]


def test_an_instance_that_recovers_gets_a_small_share(states: tuple[InstanceState, ...]) -> None:
    states[0].set_health(False)
    states[0].set_health(True)

    shares = [one["share"] for one in cluster_facts(configured()["blockchain_core"])["instances"]]

    assert shares[0] < 1 == shares[1]


def test_the_edge_gets_no_instance_whose_name_does_not_resolve(states: tuple[InstanceState, ...]) -> None:
    resolver.cache.pop(states[0].instance)
    resolver.look_up, look_up = lambda *_: (_ for _ in ()).throw(OSError()), resolver.look_up  # type: ignore[assignment]
    try:
        assert usable() == ["192.0.2.2:80"]
    finally:
        resolver.look_up = look_up  # type: ignore[method-assign]


HTTP, ONE, OTHER = {"host": "192.0.2.1", "port": 80}, "one.example.org", "other.example.org"


def tls(name: str, host: str = "192.0.2.1", port: int = 443) -> dict[str, Any]:
    return {"host": host, "port": port, "tls_name": name}


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([HTTP, HTTP], True),
        ([tls(ONE), tls(OTHER, "192.0.2.2"), tls(ONE, port=8443)], True),
        ([HTTP, tls(ONE)], False),
        ([tls(ONE), tls(OTHER)], False),
        ([tls("192.0.2.1")], False),
        ([tls("2001:db8::1")], False),
    ],
)
def test_instances_with_tls_that_nginx_could_mix_up_are_for_the_gateway(
    instances: list[dict[str, Any]], expected: bool
) -> None:
    assert can_forward_to(instances) == expected


def test_the_gateway_and_the_edge_add_the_same_fields(api: ApiClient, db: None) -> None:
    answer = api.send("get", "/meta/version")

    fields = security_fields(secure=False)
    assert fields.items() <= dict(answer.items()).items()
    assert "X-Content-Type-Options" in fields


# Addresses.


def facts_of(version_and_length: str, digits: str) -> Any:
    return address_facts(rules_cache.current)[version_and_length][digits]


def test_a_refused_network_comes_with_the_error(db: None) -> None:
    ends = timezone.now() + timedelta(hours=1)
    set_address_rule(network="192.0.2.0/24", kind="blocked", reason="r", by="t", expires_at=ends)
    set_address_rule(network="2001:db8::/32", kind="deny", reason="r", by="t")

    blocked, denied = facts_of("4/24", "c0000200"), facts_of("6/32", "20010db8" + 24 * "0")

    assert (blocked["status"], blocked["code"]) == (429, "LUCID_ERR_3001")
    assert abs(blocked["until"] - ends.timestamp()) < 0.001  # MongoDB keeps milliseconds
    assert blocked["details"] == {"reason": "blocked"}
    assert (denied["status"], denied["reason"], denied["until"]) == (403, "address_denied", None)


def test_an_allowed_network_in_a_denied_one_passes(db: None) -> None:
    set_address_rule(network="192.0.2.0/24", kind="deny", reason="r", by="t")
    set_address_rule(network="192.0.2.0/28", kind="allow", reason="r", by="t")

    assert facts_of("4/28", "c0000200") is None
    assert facts_of("4/24", "c0000200")["status"] == 403


def test_a_rule_of_the_gateways_own_does_not_override_an_operators(db: None) -> None:
    from ratelimit.models import AddressRule

    set_address_rule(network="192.0.2.0/24", kind="allow", reason="r", by="t")
    with rules_cache.changing():
        AddressRule.objects.create(network="192.0.2.1/32", kind="blocked", expires_at=timezone.now() + timedelta(1))

    assert facts_of("4/32", "c0000201") is None


def test_a_rule_in_shadow_mode_is_for_the_gateway(db: None) -> None:
    set_address_rule(network="192.0.2.0/24", kind="deny", reason="r", by="t", observe_only=True)

    assert facts_of("4/24", "c0000200") == {"ask": True}


# Publishing.


def read(redis: Redis, key: str) -> Any:
    return json.loads(redis.get(key) or b"null")  # type: ignore[arg-type]


def test_one_worker_of_a_gateway_publishes(db: None, empty_redis: Redis) -> None:
    first, second = Publisher(), Publisher()

    assert [first.is_publisher(), second.is_publisher(), first.is_publisher()] == [True, False, True]


def test_the_snapshot_names_the_address_rules_beside_it(db: None, empty_redis: Redis) -> None:
    publisher = Publisher()
    publisher.publish()
    first = read(empty_redis, keys.edge_snapshot(gateway_name()))
    set_address_rule(network="192.0.2.0/24", kind="deny", reason="r", by="t")
    publisher.publish()

    second = read(empty_redis, keys.edge_snapshot(gateway_name()))
    assert second["addresses"] != first["addresses"]
    assert read(empty_redis, keys.edge_addresses(gateway_name()))["version"] == second["addresses"]
    lift_address_rule("192.0.2.0/24", by="t")
    publisher.publish()
    assert read(empty_redis, keys.edge_snapshot(gateway_name()))["addresses"] == first["addresses"]


def test_lost_address_rules_are_published_again(db: None, empty_redis: Redis) -> None:
    publisher = Publisher()
    publisher.publish()
    empty_redis.flushall()

    publisher.publish()

    assert empty_redis.exists(keys.edge_addresses(gateway_name()), keys.edge_snapshot(gateway_name())) == 2


def test_the_snapshot_is_json_without_secrets(db: None, settings: Any) -> None:
    text = json.dumps(snapshot("v", {}, []))

    assert settings.ENV.JWT_SECRET_KEY not in text
