"""Shadow mode: what a limit would have refused is counted and logged, and nothing is refused."""

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from conftest import ApiClient, TokenPair, User, error_code, issue_tokens
from lucid_gateway.kernel.redis.access import Outage, RedisUnavailable, breaker
from lucid_gateway.policy import keys
from ratelimit.engine import shadow
from ratelimit.engine.limits import default_limit
from ratelimit.engine.shadow import note_shadow_refusal, shadow_refusals_today
from ratelimit.models import LimitRule
from ratelimit.rules import rules_cache
from testing.parallel import in_parallel


@pytest.fixture(autouse=True)
def fresh_tiers(frozen_minute: int) -> Iterator[None]:
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


def small_tiers(settings: Settings, observe: tuple[str, ...]) -> None:
    """Public: 2 per minute; signed in: 3. The tiers of `observe` are in shadow mode."""
    update = {
        "RATE_LIMIT_REQUESTS_PER_MINUTE": 2, "RATE_LIMIT_BURST_SIZE": 0,
        "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": 0,
        "RATE_LIMIT_OBSERVE_ONLY": observe,
    }  # fmt: skip
    settings.ENV = settings.ENV.model_copy(update=update)


def test_refusals_are_counted_by_tier_and_kept_for_a_week(empty_redis: Redis) -> None:
    assert shadow_refusals_today() == {}
    for name in ("public", "admin", "public"):
        note_shadow_refusal(name, "user:1")

    assert shadow_refusals_today() == {"public": 2, "admin": 1}
    assert 7 * 86_400 - 5 <= empty_redis.ttl(keys.shadow_refusals(int(time.time()) // 86_400)) <= 7 * 86_400


def test_concurrent_refusals_are_all_counted() -> None:
    in_parallel(16, lambda _: [note_shadow_refusal("public", "user:1") for _ in range(10)])

    assert shadow_refusals_today() == {"public": 160}


def test_a_new_day_starts_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    note_shadow_refusal("public", "user:1")
    tomorrow = time.time() + 86_400
    monkeypatch.setattr(shadow, "time", SimpleNamespace(time=lambda: tomorrow))

    assert shadow_refusals_today() == {}


def test_each_refusal_is_logged_with_tier_and_subject(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ratelimit.engine.shadow"):
        note_shadow_refusal("public", "ip:192.0.2.1")

    [line] = caplog.records
    assert (line.getMessage(), line.__dict__["tier"], line.__dict__["subject"]) == (
        "would have been refused", "public", "ip:192.0.2.1",
    )  # fmt: skip


def test_without_redis_refusals_are_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    breaker.outage = Outage()
    with caplog.at_level(logging.INFO, logger="ratelimit.engine.shadow"):
        note_shadow_refusal("public", "user:1")

    assert len(caplog.records) == 1
    with pytest.raises(RedisUnavailable):
        shadow_refusals_today()


def test_the_environment_can_put_a_tier_in_shadow_mode(settings: Settings, api: ApiClient) -> None:
    small_tiers(settings, ("public",))

    responses = [api.send("get", "/meta/info") for _ in range(6)]

    assert [response.status_code for response in responses] == [200] * 6
    assert [response["X-RateLimit-Remaining"] for response in responses] == ["1", "0", "0", "0", "0", "0"]
    assert shadow_refusals_today() == {"public": 4}


def test_the_other_tiers_still_refuse(settings: Settings, api: ApiClient, tokens: TokenPair) -> None:
    small_tiers(settings, ("public",))

    responses = [api.send("get", "/users/me", token=tokens.access) for _ in range(4)]

    assert [response.status_code for response in responses] == [200] * 3 + [429]
    assert shadow_refusals_today() == {}


def test_shadow_mode_of_one_user_does_not_affect_another(
    settings: Settings, api: ApiClient, owner: User, tokens: TokenPair, node_operator: User
) -> None:
    small_tiers(settings, ())
    LimitRule.objects.create(tier="authenticated", subject=f"user:{owner.pk}", observe_only=True)
    rules_cache.load()
    theirs = issue_tokens(node_operator)

    assert [api.send("get", "/users/me", token=tokens.access).status_code for _ in range(5)] == [200] * 5
    assert [api.send("get", "/users/me", token=theirs.access).status_code for _ in range(4)] == [200] * 3 + [429]
    assert shadow_refusals_today() == {"authenticated": 2}


def test_shadow_mode_of_a_quota_does_not_affect_the_rate(
    settings: Settings, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    small_tiers(settings, ())
    LimitRule.objects.create(tier="all", subject=f"user:{owner.pk}", daily_quota=1, observe_only=True)
    rules_cache.load()

    responses = [api.send("get", "/users/me", token=tokens.access) for _ in range(4)]

    assert [response.status_code for response in responses] == [200] * 3 + [429]
    assert error_code(responses[3]) == "3001"
    assert shadow_refusals_today() == {"authenticated": 2}
