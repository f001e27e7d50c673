"""Whom the gateway believes: only a trusted proxy may speak of other hops. And the limits of the operator pages."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from pytest_django.fixtures import Settings

from conftest import User, error_code
from lucid_gateway.redis_access import breaker
from ratelimit.client_address import client_address
from ratelimit.limiter import Decision
from ratelimit.middleware import FORWARDED_FIELDS, RateLimitHeadersMiddleware, TrustedProxyMiddleware
from ratelimit.throttling import remember
from ratelimit.tiers import Tier, tier

FORWARDED = dict.fromkeys(FORWARDED_FIELDS, "198.51.100.1")


@pytest.fixture(autouse=True)
def trusted_proxies(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXIES": ("10.0.0.0/8",)})


def passed_on(peer: str, **meta: Any) -> HttpRequest:
    """Return the request as inner layers see it."""
    seen = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse()

    TrustedProxyMiddleware(view)(RequestFactory().get("/", REMOTE_ADDR=peer, **meta))
    return seen[0]


def test_a_stranger_is_believed_nothing() -> None:
    request = passed_on("203.0.113.7", **FORWARDED)

    assert client_address(request) == "203.0.113.7"
    assert not request.META.keys() & set(FORWARDED_FIELDS)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", ""])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    request = passed_on(peer, **FORWARDED)

    assert client_address(request) == "198.51.100.1"
    assert request.META.items() >= FORWARDED.items()


@pytest.mark.parametrize(("peer", "secure"), [("10.0.0.1", True), ("203.0.113.7", False)])
def test_only_a_trusted_proxy_says_that_the_client_used_tls(peer: str, secure: bool) -> None:
    assert passed_on(peer, HTTP_X_FORWARDED_PROTO="https").is_secure() is secure


def test_a_decision_is_written_into_any_answer() -> None:
    decision = Decision(Tier("small", 3, 2), False, 0, 0, 17, 1_700_000_060)

    def refuse(request: HttpRequest) -> HttpResponse:
        remember(request, decision)
        return HttpResponse(status=429)

    response = RateLimitHeadersMiddleware(refuse)(RequestFactory().get("/"))

    assert response.headers.items() >= decision.headers().items()


def test_an_answer_without_a_decision_says_nothing_of_limits() -> None:
    response = RateLimitHeadersMiddleware(lambda _: HttpResponse())(RequestFactory().get("/"))

    assert not any("ratelimit" in name.lower() for name in response.headers)


@pytest.fixture
def small_tiers(settings: Settings) -> Iterator[None]:
    """Public: 2 and 1 a minute; admin: 3 and 1; the minute has only begun."""
    settings.ENV = settings.ENV.model_copy(
        update={
            "RATE_LIMIT_REQUESTS_PER_MINUTE": 2, "RATE_LIMIT_BURST_SIZE": 1,
            "RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_ADMIN_BURST_SIZE": 1,
        }
    )  # fmt: skip
    tier.cache_clear()
    left = 60 - time.time() % 60
    if left < 4:
        time.sleep(left + 0.05)
    yield
    tier.cache_clear()


def browser(user: AbstractBaseUser | None = None) -> Client:
    """Return a browser, signed in to the operator pages."""
    client = Client(HTTP_HOST="testserver")
    if user is not None:
        client.force_login(user)
    return client


def statuses(client: Client, count: int, path: str = "/admin/", **extra: Any) -> list[int]:
    return [client.get(path, **extra).status_code for _ in range(count)]


def test_staff_has_the_admin_tier_on_the_operator_pages(small_tiers: None, super_admin: User) -> None:
    client = browser(super_admin)
    assert statuses(client, 5) == [200, 200, 200, 200, 429]

    refused = client.get("/admin/accounts/user/")
    assert error_code(refused) == "3001"
    assert refused.json()["error"]["details"]["tier"] == refused["RateLimit"].split('"')[1] == "admin"
    assert abs(int(refused["Retry-After"]) - (60 - time.time() % 60)) < 3


def test_staff_counts_by_user_wherever_they_are(small_tiers: None, super_admin: User) -> None:
    browsers = [browser(super_admin), browser(super_admin)]
    answers = [
        client.get("/admin/", REMOTE_ADDR=address).status_code
        for client in browsers
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    ]

    assert answers == [200, 200, 200, 200, 429, 429]


def test_one_member_of_staff_does_not_use_up_what_another_has(
    small_tiers: None, super_admin: User, owner: User
) -> None:
    statuses(browser(super_admin), 5)
    type(owner).objects.filter(pk=owner.pk).update(role="admin")

    assert statuses(browser(owner), 1) == [200]


@pytest.mark.parametrize("signed_in", [False, True])
def test_all_others_count_by_address_on_the_operator_pages(small_tiers: None, owner: User, *, signed_in: bool) -> None:
    client = browser(owner if signed_in else None)

    assert statuses(client, 4) == [302, 302, 302, 429]
    assert client.get("/admin/")["X-RateLimit-Limit"] == "2"
    assert statuses(client, 1, REMOTE_ADDR="198.51.100.1") == [302]


def test_unknown_operator_pages_count_as_well(small_tiers: None, super_admin: User) -> None:
    assert statuses(browser(super_admin), 5, "/admin/no/such/page/") == [404, 404, 404, 404, 429]


def test_an_admitted_operator_page_tells_what_is_left(small_tiers: None, super_admin: User) -> None:
    response = browser(super_admin).get("/admin/")

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "2")


def test_other_paths_are_not_counted_as_operator_pages(small_tiers: None, super_admin: User) -> None:
    statuses(browser(super_admin), 5)

    assert statuses(browser(super_admin), 4, "/login") == [200] * 4
    assert statuses(browser(super_admin), 1, "/administration") == [404]


def test_without_redis_the_operator_pages_are_served_and_still_limited(small_tiers: None, super_admin: User) -> None:
    client = browser(super_admin)
    breaker._blocked_until = breaker.clock() + 60

    assert statuses(client, 5) == [200, 200, 200, 200, 429]
