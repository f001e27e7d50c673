"""The tiers and their limits."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from ratelimit.engine.limits import RequestLimit, default_limit


@pytest.fixture(autouse=True)
def fresh_tiers() -> Iterator[None]:
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


@pytest.mark.parametrize(
    ("name", "per_minute", "burst"),
    [("public", 100, 200), ("authenticated", 1000, 2000), ("admin", 10_000, 20_000), ("blockchain_query", 500, 1000)],
)
def test_the_defaults_are_those_of_the_contract(name: str, per_minute: int, burst: int) -> None:
    assert default_limit(name) == RequestLimit(name, per_minute, burst)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("public", "RATE_LIMIT"),
        ("authenticated", "RATE_LIMIT_AUTHENTICATED"),
        ("admin", "RATE_LIMIT_ADMIN"),
        ("blockchain_query", "RATE_LIMIT_BLOCKCHAIN_QUERY"),
    ],
)
def test_the_environment_sets_the_limits_of_each_tier(settings: Settings, name: str, prefix: str) -> None:
    numbers = {f"{prefix}_REQUESTS_PER_MINUTE": 7, f"{prefix}_BURST_SIZE": 3}
    settings.ENV = settings.ENV.model_copy(update=numbers)

    assert default_limit(name) == RequestLimit(name, 7, 3)


def test_an_unknown_tier_is_an_error() -> None:
    with pytest.raises(KeyError):
        default_limit("nobody")
