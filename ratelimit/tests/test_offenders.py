"""Addresses that keep exceeding their limit: halved for an hour, then blocked for a day."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone
from pytest_django.fixtures import Settings
from redis import Redis

from conftest import ApiClient, TokenPair
from lucid_gateway.kernel.redis.access import redis_client
from ratelimit.engine.limits import default_limit
from ratelimit.models import AddressRule
from ratelimit.rules import address_verdict, rules_cache
from testing.parallel import in_parallel

INFO, ADDRESS = "/meta/info", "192.0.2.1"
ADMITTED = 10  # in a first minute, by the fixture below


@pytest.fixture(autouse=True)
def small_tier(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """Public: 6 per minute and a burst of 4; logins: one."""
    update = {
        "RATE_LIMIT_REQUESTS_PER_MINUTE": 6,
        "RATE_LIMIT_BURST_SIZE": 4,
        "RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE": 1,
    }
    settings.ENV = settings.ENV.model_copy(update=update)
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


def knock(api: ApiClient, times: int, address: str = ADDRESS) -> list[int]:
    return [api.send("get", INFO, REMOTE_ADDR=address).status_code for _ in range(times)]


def next_minute(redis: Redis) -> None:
    """Reset the counters, as the next minute does."""
    redis.flushall()


def rule(network: str, kind: str, **fields: Any) -> AddressRule:
    made = AddressRule.objects.create(network=network, kind=kind, reason="why", **fields)
    rules_cache.load()
    return made


def test_an_address_that_sends_twice_its_limit_is_halved_for_an_hour(api: ApiClient, db: None) -> None:
    assert knock(api, 2 * ADMITTED - 1) == [200] * ADMITTED + [429] * (ADMITTED - 1)
    assert not AddressRule.objects.exists()

    assert knock(api, 1) == [429]

    row = AddressRule.objects.get()
    assert (row.network, row.kind, row.created_by) == ("192.0.2.1/32", "halved", "")
    assert row.reason == "twice its limit within a minute"
    assert row.expires_at is not None
    assert timedelta(minutes=59) < row.expires_at - timezone.now() <= timedelta(hours=1)


def test_the_evidence_is_kept(api: ApiClient, db: None) -> None:
    knock(api, 2 * ADMITTED)

    evidence = AddressRule.objects.get().evidence
    at = evidence.pop("at")
    assert evidence == {"tier": "public", "refused": 10, "limit": 6, "burst": 4, "window_seconds": 60}
    assert abs((timezone.datetime.fromisoformat(at) - timezone.now()).total_seconds()) < 10


def test_halved_limits_apply_and_are_shown_in_the_headers(api: ApiClient, db: None, empty_redis: Redis) -> None:
    knock(api, 2 * ADMITTED)
    next_minute(empty_redis)

    response = api.send("get", INFO, REMOTE_ADDR=ADDRESS)

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "2")
    assert response["RateLimit-Policy"] == '"public";q=3;w=60, "public-burst";q=2;w=300'
    assert knock(api, 5) == [200] * 4 + [429]
    assert knock(api, 11, "192.0.2.2") == [200] * ADMITTED + [429]


def test_remaining_is_never_negative_in_the_minute_in_which_limits_are_halved(api: ApiClient, db: None) -> None:
    knock(api, 7)
    rule("192.0.2.1/32", "halved")

    response = api.send("get", INFO, REMOTE_ADDR=ADDRESS)

    assert (response.status_code, response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == (200, "3", "0")
    assert '"public-burst";r=0;' in response["RateLimit"]


def test_an_address_that_keeps_exceeding_halved_limits_is_blocked_for_a_day(
    api: ApiClient, db: None, empty_redis: Redis
) -> None:
    knock(api, 2 * ADMITTED)
    next_minute(empty_redis)
    knock(api, 9)
    assert AddressRule.objects.get().kind == "halved"

    knock(api, 1)

    row, verdict = AddressRule.objects.get(), address_verdict(ADDRESS)
    assert (row.network, row.kind, row.reason) == ("192.0.2.1/32", "blocked", "kept exceeding its halved limits")
    assert (row.evidence["refused"], row.evidence["limit"], row.evidence["burst"]) == (5, 3, 2)
    assert row.expires_at is not None
    assert timedelta(hours=23, minutes=59) < row.expires_at - timezone.now() <= timedelta(hours=24)
    assert verdict is not None
    assert verdict.kind == "blocked"


def test_one_minute_takes_one_step_however_many_requests_are_refused(api: ApiClient, db: None) -> None:
    knock(api, 8 * ADMITTED)

    assert [row.kind for row in AddressRule.objects.all()] == ["halved"]


def test_concurrent_requests_take_one_step_together(transactional_db: None) -> None:
    def client(_: int) -> list[int]:
        return knock(ApiClient(HTTP_HOST="testserver"), 10)

    statuses = [status for of_thread in in_parallel(16, client) for status in of_thread]

    assert (statuses.count(200), statuses.count(429)) == (ADMITTED, 150)
    assert [row.kind for row in AddressRule.objects.all()] == ["halved"]
    redis_client().flushall()
    in_parallel(16, client)
    assert [row.kind for row in AddressRule.objects.all()] == ["blocked"]


def test_other_addresses_are_not_punished(api: ApiClient, db: None) -> None:
    knock(api, 2 * ADMITTED)

    assert address_verdict("192.0.2.2") is None
    assert knock(api, ADMITTED, "192.0.2.2") == [200] * ADMITTED


def test_an_address_below_twice_its_limit_is_never_punished(api: ApiClient, db: None, empty_redis: Redis) -> None:
    for _ in range(4):
        knock(api, 2 * ADMITTED - 1)
        next_minute(empty_redis)

    assert not AddressRule.objects.exists()


def test_refused_logins_are_punished_too(api: ApiClient, db: None) -> None:
    responses = [api.send("post", "/auth/login", {}, REMOTE_ADDR=ADDRESS) for _ in range(1 + 2 * ADMITTED)]

    assert [response.status_code for response in responses] == [422] + [429] * 2 * ADMITTED
    assert AddressRule.objects.get().kind == "halved"


def test_bad_tokens_are_punished_too(api: ApiClient, db: None) -> None:
    for number in range(2 * ADMITTED):
        api.send("get", "/users/me", token=f"a.b.{number}", REMOTE_ADDR=ADDRESS)

    assert AddressRule.objects.get().kind == "halved"


def test_a_signed_in_user_over_the_limit_is_not_an_offender(
    api: ApiClient, tokens: TokenPair, settings: Settings
) -> None:
    update = {"RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": 1, "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": 0}
    settings.ENV = settings.ENV.model_copy(update=update)
    default_limit.cache_clear()

    statuses = [api.send("get", "/users/me", token=tokens.access).status_code for _ in range(30)]

    assert statuses == [200] + [429] * 29
    assert not AddressRule.objects.exists()


def test_an_allowed_network_is_neither_limited_by_address_nor_punished(api: ApiClient, db: None) -> None:
    rule("192.0.2.0/24", "allow")

    assert knock(api, 4 * ADMITTED) == [200] * 4 * ADMITTED
    assert [row.kind for row in AddressRule.objects.all()] == ["allow"]
    response = api.send("get", INFO, REMOTE_ADDR=ADDRESS)
    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("6", "6")
    assert 0 < int(response["X-RateLimit-Reset"]) - time.time() <= 61


def test_an_allowed_network_is_not_punished_for_its_logins(api: ApiClient, db: None) -> None:
    rule("192.0.2.0/24", "allow")

    statuses = [api.send("post", "/auth/login", {}, REMOTE_ADDR=ADDRESS).status_code for _ in range(4 * ADMITTED)]

    assert statuses == [422] + [429] * (4 * ADMITTED - 1)
    assert [row.kind for row in AddressRule.objects.all()] == ["allow"]


@pytest.mark.parametrize(
    ("network", "kind"), [("192.0.2.1/32", "deny"), ("192.0.2.0/24", "deny"), ("192.0.2.1/32", "blocked")]
)
def test_denied_and_blocked_networks_are_not_changed(
    api: ApiClient, transactional_db: None, network: str, kind: str
) -> None:
    before = rule(network, kind)

    knock(api, 4 * ADMITTED)

    row = AddressRule.objects.get()
    assert (row.pk, row.kind, row.reason, row.expires_at) == (before.pk, kind, "why", None)


def test_an_offender_in_a_halved_network_gets_its_own_rule(api: ApiClient, db: None, empty_redis: Redis) -> None:
    rule("192.0.2.0/24", "halved")

    assert knock(api, 10) == [200] * 5 + [429] * 5

    assert dict(AddressRule.objects.values_list("network", "kind")) == {
        "192.0.2.0/24": "halved", "192.0.2.1/32": "halved",
    }  # fmt: skip
    next_minute(empty_redis)
    knock(api, 10)
    assert AddressRule.objects.get(network="192.0.2.1/32").kind == "blocked"


def test_an_ipv6_address_is_punished_as_its_64_network(api: ApiClient, db: None, empty_redis: Redis) -> None:
    for number in range(2 * ADMITTED):
        knock(api, 1, f"2001:db8::{number}:1")

    assert AddressRule.objects.get().network == "2001:db8::/64"
    next_minute(empty_redis)
    assert [knock(api, 1, f"2001:db8::{number}:2") for number in range(6)] == [[200]] * 5 + [[429]]
    assert knock(api, 6, "2001:db8:0:1::1") == [200] * 6


@pytest.mark.parametrize("kind", ["halved", "blocked", "deny"])
def test_an_expired_rule_is_ignored(api: ApiClient, db: None, kind: str) -> None:
    rule("192.0.2.1/32", kind, expires_at=timezone.now() - timedelta(seconds=1))

    assert knock(api, 2 * ADMITTED) == [200] * ADMITTED + [429] * ADMITTED

    row = AddressRule.objects.get()
    assert (row.kind, row.evidence["limit"]) == ("halved", 6)
    assert row.expires_at is not None
    assert row.expires_at > timezone.now()


def test_shadow_mode_punishes_nobody(api: ApiClient, db: None, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_OBSERVE_ONLY": ("public",)})
    default_limit.cache_clear()

    assert knock(api, 4 * ADMITTED) == [200] * 4 * ADMITTED
    assert not AddressRule.objects.exists()


def test_without_a_database_the_limit_holds_and_nothing_breaks(
    api: ApiClient, db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr("django.db.models.QuerySet.update", fail)

    assert knock(api, 4 * ADMITTED) == [200] * ADMITTED + [429] * 3 * ADMITTED
    assert [record.getMessage() for record in caplog.records] == ["address exceeds its limit", "offence not recorded"]
    monkeypatch.undo()
    assert not AddressRule.objects.exists()


def test_peers_without_an_address_are_limited_and_nothing_breaks(
    api: ApiClient, db: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert knock(api, 4 * ADMITTED, "") == [200] * ADMITTED + [429] * 3 * ADMITTED
    assert not AddressRule.objects.exists()
    assert [record.getMessage() for record in caplog.records] == []
