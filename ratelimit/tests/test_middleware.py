"""Which proxies are believed, and which requests count for an address although no view has counted them."""

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from pytest_django.fixtures import Settings

from conftest import ApiClient, error_code
from ratelimit.client_address import client_address
from ratelimit.engine.limiter import Decision, Verdict
from ratelimit.engine.limits import RequestLimit, default_limit
from ratelimit.middleware import FORWARDED_FIELDS, RateLimitHeadersMiddleware, TrustedProxyMiddleware
from ratelimit.throttling import record_decision
from testing.gateway import Gateway

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


def test_an_untrusted_peer_is_not_believed() -> None:
    request = passed_on("203.0.113.7", **FORWARDED)

    assert client_address(request) == "203.0.113.7"
    assert not request.META.keys() & set(FORWARDED_FIELDS)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", ""])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    request = passed_on(peer, **FORWARDED)

    assert client_address(request) == "198.51.100.1"
    assert request.META.items() >= FORWARDED.items()


@pytest.mark.parametrize(("peer", "secure"), [("10.0.0.1", True), ("203.0.113.7", False)])
def test_only_a_trusted_proxy_may_say_that_the_client_used_tls(peer: str, secure: bool) -> None:
    assert passed_on(peer, HTTP_X_FORWARDED_PROTO="https").is_secure() is secure


def test_a_decision_is_written_into_any_answer() -> None:
    decision = Decision(RequestLimit("small", 3, 2), Verdict.OVER_LIMIT, 0, 0, 17, 1_700_000_060)

    def refuse(request: HttpRequest) -> HttpResponse:
        record_decision(request, decision)
        return HttpResponse(status=429)

    response = RateLimitHeadersMiddleware(refuse)(RequestFactory().get("/"))

    assert response.headers.items() >= decision.headers().items()


def test_an_answer_without_a_decision_has_no_limit_headers() -> None:
    response = RateLimitHeadersMiddleware(lambda _: HttpResponse())(RequestFactory().get("/"))

    assert not any("ratelimit" in name.lower() for name in response.headers)


ADMITTED = 4
Case = tuple[str, str, dict[str, Any], int]  # method, path, additions to the environ, status


@pytest.fixture
def small_tier(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """Public: 3 per minute and a burst of 1."""
    update = {"RATE_LIMIT_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_BURST_SIZE": 1}
    settings.ENV = settings.ENV.model_copy(update=update)
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


@pytest.fixture
def browser() -> Client:
    """A client that takes full paths and sends no CSRF token."""
    return Client(raise_request_exception=False, HTTP_HOST="testserver", enforce_csrf_checks=True)


COUNTED = {
    "unknown path": ("get", "/no/such/path", {}, 404),
    "unknown path of the API": ("get", "/api/v1/nothing", {}, 404),
    "unknown file": ("get", "/static/no-such-file.css", {}, 404),
    "dot segments": ("get", "/api/v1/../admin", {}, 400),
    "NUL": ("get", "/api/v1/meta/info%00", {}, 400),
    "no host": ("get", "/api/v1/meta/info", {"HTTP_HOST": ""}, 400),
    "foreign host": ("get", "/api/v1/meta/info", {"HTTP_HOST": "evil.example"}, 400),
    "wrong method": ("delete", "/api/v1/meta/info", {}, 405),
    "wrong method of a signed-in endpoint": ("delete", "/api/v1/users", {}, 405),
    "no credential": ("get", "/api/v1/users/me", {}, 401),
    "too large": ("post", "/api/v1/users", {"CONTENT_LENGTH": 2**21}, 413),
    "no CSRF token": ("post", "/admin/login/", {}, 403),
    "no session": ("get", "/admin/", {}, 302),
    "no OPTIONS of CORS": ("options", "/api/v1/users/me", {}, 401),
}


@pytest.mark.parametrize("case", COUNTED.values(), ids=COUNTED)
def test_every_failed_request_counts_for_its_address(
    browser: Client, api: ApiClient, small_tier: None, case: Case
) -> None:
    method, path, extra, status = case
    statuses = [getattr(browser, method)(path, **extra).status_code for _ in range(ADMITTED + 2)]

    assert statuses == [status] * ADMITTED + [429] * 2
    assert error_code(api.send("get", "/meta/info")) == "3001"
    assert api.send("get", "/meta/info", REMOTE_ADDR="192.0.2.99").status_code == 200


def test_a_failed_request_is_counted_once(browser: Client, api: ApiClient, small_tier: None) -> None:
    browser.get("/no/such/path")
    browser.get("/api/v1/users/me")
    response = api.send("get", "/meta/info")

    assert response["X-RateLimit-Remaining"] == "0"
    assert '"public-burst";r=1' in response["RateLimit"]


def test_the_answer_to_a_failed_request_has_limit_headers(browser: Client, small_tier: None) -> None:
    for _ in range(ADMITTED):
        response = browser.get("/no/such/path")
    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "0")

    refused = browser.get("/no/such/path")
    assert (refused.status_code, error_code(refused)) == (429, "3001")
    assert refused["Retry-After"] == "30"


PREFLIGHT = {"HTTP_ORIGIN": "https://app.example.org", "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
FREE = {
    "probe": ("get", "/api/v1/meta/health/live", {}, 200),
    "wrong method at a probe": ("post", "/api/v1/meta/health/live", {}, 405),
    "preflight": ("options", "/api/v1/users/me", PREFLIGHT, 200),
    "preflight of an unknown path": ("options", "/api/v1/nothing", PREFLIGHT, 200),
}


@pytest.mark.parametrize("case", FREE.values(), ids=FREE)
def test_probes_and_preflights_are_free(browser: Client, api: ApiClient, small_tier: None, case: Case) -> None:
    method, path, extra, status = case
    responses = [getattr(browser, method)(path, **extra) for _ in range(2 * ADMITTED)]

    assert {response.status_code for response in responses} == {status}
    assert not any("RateLimit" in response for response in responses)
    assert api.send("get", "/meta/info")["X-RateLimit-Remaining"] == "2"


PUBLIC_PAGES = {
    "file": "/static/accounts/link.css",
    "page of a mailed link": "/login",
    "public keys": "/.well-known/jwks.json",
    "info": "/api/v1/meta/info",
    "health": "/api/v1/meta/health",
}


@pytest.mark.parametrize("path", PUBLIC_PAGES.values(), ids=PUBLIC_PAGES)
def test_public_pages_count_for_the_address(browser: Client, small_tier: None, path: str) -> None:
    responses = [browser.get(path) for _ in range(ADMITTED + 2)]

    assert [response.status_code for response in responses] == [200] * ADMITTED + [429] * 2
    assert error_code(responses[-1]) == "3001"
    assert browser.get(path, REMOTE_ADDR="192.0.2.99").status_code == 200


def test_a_304_answer_is_counted_too(browser: Client, small_tier: None) -> None:
    known = {"HTTP_IF_NONE_MATCH": browser.get("/login")["ETag"]}
    statuses = [browser.get("/login", **known).status_code for _ in range(ADMITTED)]

    assert statuses == [304] * (ADMITTED - 1) + [429]


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_the_api_documents_count_for_the_address(gateway: Gateway, path: str) -> None:
    answer = requests.get(f"http://127.0.0.1:{gateway.port}{path}", timeout=20)

    assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (200, "100")


def test_disabled_limits_do_not_refuse_failed_requests(browser: Client, small_tier: None, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    responses = [browser.get("/no/such/path") for _ in range(3 * ADMITTED)]

    assert {response.status_code for response in responses} == {404}
    assert "RateLimit" not in responses[0]
