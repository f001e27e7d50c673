"""What a caller has used of its limits is read in one round trip, and not counted."""

from dataclasses import asdict
from datetime import UTC, datetime

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import Outage, RedisUnavailable, breaker
from lucid_gateway.policy.roles import PERMISSIONS, Role
from ratelimit.engine import bandwidth
from ratelimit.engine.limiter import admit
from ratelimit.models import LimitRule
from ratelimit.rules import Rules, byte_limit_for, limit_for, rules_cache
from ratelimit.usage import Usage, usage_of
from testing.redis_monitor import watched_redis

USER_ID = "11111111-1111-4111-8111-111111111111"


def caller(role: Role = Role.USER, key_permissions: frozenset[str] | None = None) -> Caller:
    return Caller(USER_ID, role, "abcdefghijkl", "", 0, key_permissions=key_permissions)


def rules(*found: LimitRule) -> None:
    """Let the process hold these rules."""
    rules_cache.current = Rules({(rule.tier, rule.subject): rule for rule in found})


def tiers_of(usage: Usage) -> list[str]:
    return [tier.tier for tier in usage.tiers]


def test_a_user_has_the_tiers_of_callers() -> None:
    assert tiers_of(usage_of(caller())) == ["authenticated", "blockchain_query", "chunk_upload"]


@pytest.mark.parametrize("role", [Role.NODE_OPERATOR, Role.ADMIN, Role.SUPER_ADMIN])
def test_callers_whose_requests_the_admin_tier_counts_have_it(role: Role) -> None:
    assert "admin" in tiers_of(usage_of(caller(role)))


def test_a_key_without_the_permission_for_metrics_lacks_the_admin_tier() -> None:
    key = caller(Role.NODE_OPERATOR, frozenset({"blockchain:read"}))

    assert tiers_of(usage_of(key)) == ["authenticated", "blockchain_query", "chunk_upload"]


def test_requests_are_subtracted_from_their_tier(frozen_minute: int) -> None:
    for _ in range(4):
        admit(limit_for("authenticated", caller().bucket), caller().subject)

    first, second, _ = usage_of(caller()).tiers

    assert asdict(first) == {
        "tier": "authenticated", "limit": 1_000, "remaining": 996, "burst": 2_000, "burst_remaining": 2_000,
        "resets_at": datetime.fromtimestamp(frozen_minute + 30, UTC), "observe_only": False,
    }  # fmt: skip
    assert second.remaining == second.limit == 500


def test_the_burst_is_subtracted_once_the_minute_is_used_up(frozen_minute: int) -> None:
    rules(LimitRule(tier="authenticated", subject=caller().bucket, limit=3, burst=5, observe_only=True))
    for _ in range(5):
        admit(limit_for("authenticated", caller().bucket), caller().subject)

    used = usage_of(caller()).tiers[0]

    assert (used.limit, used.remaining, used.burst, used.burst_remaining) == (3, 0, 5, 3)
    assert used.observe_only


def test_a_user_and_an_api_key_of_the_user_are_counted_separately(frozen_minute: int) -> None:
    admit(limit_for("authenticated", caller().bucket), caller().subject)

    assert usage_of(caller()).tiers[0].remaining == 999
    assert usage_of(caller(key_permissions=frozenset(PERMISSIONS[Role.USER]))).tiers[0].remaining == 1_000


def test_quota_and_requests_in_progress_are_counted_over_all_tiers(frozen_minute: int) -> None:
    rules(LimitRule(tier="all", subject=caller().bucket, daily_quota=5, concurrent_requests=4))
    for tier in ("authenticated", "blockchain_query", "authenticated"):
        admit(limit_for(tier, caller().bucket), caller().subject)

    used = usage_of(caller())

    assert (used.quota.limit, used.quota.used) == (5, 3)
    assert used.quota.resets_at == datetime.fromtimestamp(frozen_minute // 86_400 * 86_400 + 86_400, UTC)
    assert (used.concurrent.limit, used.concurrent.used) == (4, 3)


@pytest.mark.parametrize("totals", [{"daily_quota": 2}, {"concurrent_requests": 2}], ids=str)
def test_an_exhausted_quota_does_not_hide_the_tiers(frozen_minute: int, totals: dict[str, int]) -> None:
    rules(LimitRule(tier="all", subject=caller().bucket, **totals))
    for _ in range(3):
        admit(limit_for("authenticated", caller().bucket), caller().subject)

    first = usage_of(caller()).tiers[0]

    assert (first.remaining, first.resets_at) == (998, datetime.fromtimestamp(frozen_minute + 30, UTC))


def test_without_a_rule_there_is_neither_quota_nor_a_limit_of_concurrent_requests() -> None:
    used = usage_of(caller())

    assert (used.quota.limit, used.quota.used, used.concurrent.limit, used.concurrent.used) == (None, 0, None, 0)


def test_uploads_are_shown_in_bytes(frozen_minute: int) -> None:
    rules(LimitRule(tier="chunk_upload", subject=caller().bucket, limit=1, burst=100_000))
    bandwidth.take(byte_limit_for(caller().bucket), caller().subject, 90_000)

    used = usage_of(caller()).tiers[-1]

    assert (used.tier, used.limit, used.burst) == ("chunk_upload", 1, 100_000)
    assert 10_000 <= used.remaining == used.burst_remaining < 20_000  # it fills at one byte per second
    assert used.resets_at == datetime.fromtimestamp(frozen_minute + 100_000 - used.remaining, UTC)


def test_disabled_limits_have_no_usage(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})
    rules(LimitRule(tier="all", subject=caller().bucket, daily_quota=5, concurrent_requests=4))

    used = usage_of(caller())

    assert (used.tiers, used.quota.limit, used.concurrent.limit) == ((), None, None)


def test_reading_the_usage_changes_nothing_in_redis(empty_redis: Redis) -> None:
    rules(LimitRule(tier="all", subject=caller().bucket, daily_quota=5, concurrent_requests=4))

    with watched_redis(scripts=True) as commands:
        usage_of(caller(Role.ADMIN))

    assert {command.split()[0] for command in commands} == {"EVAL", "TIME", "ZCOUNT", "HMGET"}


def test_the_usage_needs_redis() -> None:
    breaker.outage = Outage()

    with pytest.raises(RedisUnavailable):
        usage_of(caller())
