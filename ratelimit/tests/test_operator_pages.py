"""The limits of the operator pages: staff by user, everyone else by address."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.test import Client
from pytest_django.fixtures import Settings

from conftest import User
from lucid_gateway.kernel.redis.access import Outage, breaker
from ratelimit.engine.limits import default_limit


@pytest.fixture
def small_tiers(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """Requests per minute and burst. Public: 2 and 1; admin: 3 and 1."""
    settings.ENV = settings.ENV.model_copy(
        update={
            "RATE_LIMIT_REQUESTS_PER_MINUTE": 2, "RATE_LIMIT_BURST_SIZE": 1,
            "RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_ADMIN_BURST_SIZE": 1,
        }
    )  # fmt: skip
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


def browser(user: AbstractBaseUser | None = None) -> Client:
    """Return a browser, signed in to the operator pages."""
    client = Client(HTTP_HOST="testserver")
    if user is not None:
        client.force_login(user)
    return client


def statuses(client: Client, count: int, path: str = "/admin/", **extra: Any) -> list[int]:
    return [client.get(path, **extra).status_code for _ in range(count)]


def test_operator_pages_count_staff_in_the_admin_tier(small_tiers: None, super_admin: User) -> None:
    client = browser(super_admin)
    assert statuses(client, 5) == [200, 200, 200, 200, 429]

    refused = client.get("/admin/accounts/user/")
    assert "LUCID_ERR_3001" in refused.content.decode()
    assert "<dt>tier</dt><dd>admin</dd>" in refused.content.decode()
    assert refused["RateLimit"].split('"')[1] == "admin"
    assert refused["Retry-After"] == "30"


def test_staff_are_counted_by_user_not_by_address(small_tiers: None, super_admin: User) -> None:
    browsers = [browser(super_admin), browser(super_admin)]
    answers = [
        client.get("/admin/", REMOTE_ADDR=address).status_code
        for client in browsers
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    ]

    assert answers == [200, 200, 200, 200, 429, 429]


def test_members_of_staff_do_not_share_a_limit(small_tiers: None, super_admin: User, owner: User) -> None:
    statuses(browser(super_admin), 5)
    type(owner).objects.filter(pk=owner.pk).update(role="admin")

    assert statuses(browser(owner), 1) == [200]


@pytest.mark.parametrize("signed_in", [False, True])
def test_operator_pages_count_everyone_else_by_address(small_tiers: None, owner: User, *, signed_in: bool) -> None:
    client = browser(owner if signed_in else None)

    assert statuses(client, 4) == [302, 302, 302, 429]
    assert client.get("/admin/")["X-RateLimit-Limit"] == "2"
    assert statuses(client, 1, REMOTE_ADDR="198.51.100.1") == [302]


def test_unknown_operator_pages_are_counted_too(small_tiers: None, super_admin: User) -> None:
    assert statuses(browser(super_admin), 5, "/admin/no/such/page/") == [404, 404, 404, 404, 429]


def test_an_operator_page_has_limit_headers(small_tiers: None, super_admin: User) -> None:
    response = browser(super_admin).get("/admin/")

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "2")


def test_other_paths_are_not_counted_as_operator_pages(small_tiers: None, super_admin: User) -> None:
    statuses(browser(super_admin), 5)

    assert statuses(browser(super_admin), 2, "/login") == [200] * 2
    assert statuses(browser(super_admin), 1, "/administration") == [404]


def test_without_redis_the_operator_pages_are_served_and_still_limited(small_tiers: None, super_admin: User) -> None:
    client = browser(super_admin)
    breaker.outage = Outage()

    assert statuses(client, 5) == [200, 200, 200, 200, 429]
