"""Whom the gateway believes: only a trusted proxy may speak of other hops."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django.fixtures import Settings

from ratelimit.client_address import client_address
from ratelimit.limiter import Decision
from ratelimit.middleware import FORWARDED_FIELDS, RateLimitHeadersMiddleware, TrustedProxyMiddleware
from ratelimit.throttling import remember
from ratelimit.tiers import Tier

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
