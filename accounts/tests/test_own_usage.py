"""GET /users/me/usage: what the caller has used of its limits."""

from typing import Any

import pytest

from accounts.api_keys import create_api_key
from accounts.models import User
from conftest import ApiClient, TokenPair, error_code
from lucid_gateway.kernel.redis.access import Outage, breaker
from ratelimit.models import LimitRule
from ratelimit.rules import rules_cache

pytestmark = pytest.mark.django_db


def tier(answer: Any, name: str = "authenticated") -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in answer.json()["tiers"] if row["tier"] == name)
    return found


def test_the_answer_has_the_shape_of_the_contract(api: ApiClient, tokens: TokenPair, frozen_minute: int) -> None:
    answer = api.send("get", "/users/me/usage", token=tokens.access)

    assert answer.status_code == 200
    assert set(answer.json()) == {"tiers", "quota", "concurrent"}
    assert set(answer.json()["quota"]) == {"limit", "used", "resets_at"}
    assert set(answer.json()["concurrent"]) == {"limit", "used"}
    assert set(tier(answer)) == {"tier", "limit", "remaining", "burst", "burst_remaining", "resets_at"}


def test_the_request_itself_counts_once_like_any_other(api: ApiClient, tokens: TokenPair, frozen_minute: int) -> None:
    answers = [api.send("get", "/users/me/usage", token=tokens.access) for _ in range(3)]

    assert [tier(answer)["remaining"] for answer in answers] == [999, 998, 997]
    assert [answer["X-RateLimit-Remaining"] for answer in answers] == ["999", "998", "997"]


def test_it_agrees_with_a_quota_and_a_limit_of_concurrent_requests(
    api: ApiClient, owner: User, tokens: TokenPair, frozen_minute: int
) -> None:
    LimitRule.objects.create(tier="all", subject=f"user:{owner.pk}", daily_quota=9, concurrent_requests=2)
    rules_cache.load()
    api.send("get", "/users/me", token=tokens.access)

    answer = api.send("get", "/users/me/usage", token=tokens.access)

    assert (answer.json()["quota"]["limit"], answer.json()["quota"]["used"]) == (9, 2)
    assert answer.json()["concurrent"] == {"limit": 2, "used": 1}


def test_an_api_key_sees_its_own_usage(api: ApiClient, owner: User, tokens: TokenPair, frozen_minute: int) -> None:
    api.send("get", "/users/me", token=tokens.access)
    _, text = create_api_key(owner, name="script", permissions=["user:read"])

    answer = api.send("get", "/users/me/usage", headers={"X-API-Key": text})

    assert tier(answer)["remaining"] == 999


def test_it_requires_a_credential(api: ApiClient) -> None:
    answer = api.send("get", "/users/me/usage")

    assert (answer.status_code, error_code(answer)) == (401, "2001")


def test_without_redis_the_usage_is_unknown(api: ApiClient, tokens: TokenPair) -> None:
    breaker.outage = Outage()

    answer = api.send("get", "/users/me/usage", token=tokens.access)

    assert (answer.status_code, error_code(answer)) == (503, "5008")
    assert answer["Retry-After"]
