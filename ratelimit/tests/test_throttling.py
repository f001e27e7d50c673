"""What clients see of their limits: the tier that counted the request, and a Retry-After that is true."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from conftest import ApiClient, TokenPair, error_code
from lucid_gateway.kernel.redis.access import Outage, breaker
from ratelimit.engine.limits import default_limit
from testing.gateway import Gateway
from testing.http.client import RawClient, request_bytes
from testing.minutes import early_in_the_minute

INFO = "/meta/info"


@pytest.fixture(autouse=True)
def small_tiers(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """Requests per minute and burst. Public: 3 and 1; signed in: 4 and 1; block queries: 2 and 0."""
    settings.ENV = settings.ENV.model_copy(
        update={
            "RATE_LIMIT_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_BURST_SIZE": 1,
            "RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": 4, "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": 1,
            "RATE_LIMIT_BLOCKCHAIN_QUERY_REQUESTS_PER_MINUTE": 2, "RATE_LIMIT_BLOCKCHAIN_QUERY_BURST_SIZE": 0,
        }
    )  # fmt: skip
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


def test_an_admitted_answer_has_limit_headers(api: ApiClient, frozen_minute: int) -> None:
    response = api.send("get", INFO)

    assert response.status_code == 200
    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "2")
    assert int(response["X-RateLimit-Reset"]) == frozen_minute + 30
    assert response["RateLimit-Policy"] == '"public";q=3;w=60, "public-burst";q=1;w=300'
    assert response["RateLimit"].startswith('"public";r=2;t=')


def test_a_refused_answer_names_the_tier_and_retry_after(api: ApiClient, frozen_minute: int) -> None:
    statuses = [api.send("get", INFO).status_code for _ in range(4)]
    response = api.send("get", INFO)

    assert statuses == [200] * 4
    assert response.status_code == 429
    assert error_code(response) == "3001"
    assert response.json()["error"]["details"]["tier"] == "public"
    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "0")
    assert response["Retry-After"] == "30"
    assert int(response["X-RateLimit-Reset"]) == frozen_minute + 30


def test_signed_in_requests_count_for_the_user(api: ApiClient, tokens: TokenPair) -> None:
    statuses = [api.send("get", "/users/me", token=tokens.access).status_code for _ in range(6)]
    refused = api.send("get", "/users/me", token=tokens.access, REMOTE_ADDR="192.0.2.99")

    assert statuses == [200] * 5 + [429]
    assert refused.json()["error"]["details"]["tier"] == "authenticated"
    assert api.send("get", INFO).status_code == 200


def test_a_refusal_names_the_tier_of_its_route(api: ApiClient, tokens: TokenPair) -> None:
    responses = [api.send("get", "/chain/blocks", token=tokens.access) for _ in range(3)]

    assert [response.status_code for response in responses] == [502, 502, 429]
    assert responses[2].json()["error"]["details"]["tier"] == "blockchain_query"
    assert responses[2]["X-RateLimit-Limit"] == "2"
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200


@pytest.mark.parametrize("token", ["garbage", "a.b.c", ""])
def test_a_flood_of_bad_tokens_is_limited(api: ApiClient, token: str) -> None:
    responses = [
        api.send("get", "/users/me", headers={"Authorization": f"Bearer {token}"}, REMOTE_ADDR="192.0.2.5")
        for _ in range(6)
    ]

    assert [response.status_code for response in responses] == [401] * 4 + [429] * 2
    assert responses[5]["Retry-After"]
    assert api.send("get", "/users/me", REMOTE_ADDR="192.0.2.6").status_code == 401


def test_a_flood_without_tokens_is_limited(api: ApiClient) -> None:
    assert [api.send("get", "/users/me").status_code for _ in range(5)] == [401] * 4 + [429]


@pytest.mark.parametrize("field", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host"])
def test_a_forged_address_gives_no_new_bucket(api: ApiClient, field: str) -> None:
    statuses = [
        api.send("get", INFO, headers={field: f"198.51.100.{number}"}).status_code for number in range(5)
    ]  # fmt: skip

    assert statuses == [200] * 4 + [429]


def test_an_ipv6_address_is_counted_as_its_64_network(api: ApiClient) -> None:
    statuses = [api.send("get", INFO, REMOTE_ADDR=f"2001:db8::{number}").status_code for number in range(5)]

    assert statuses == [200] * 4 + [429]
    assert api.send("get", INFO, REMOTE_ADDR="2001:db8:0:1::1").status_code == 200


@pytest.mark.parametrize("path", ["/meta/info", "/meta/info/", "/meta/%69nfo", "/meta/info?x=1"])
def test_all_spellings_of_a_path_share_a_bucket(api: ApiClient, path: str) -> None:
    for _ in range(4):
        api.send("get", INFO)

    assert api.send("get", path).status_code == 429


@pytest.mark.parametrize("path", ["/meta/health/live", "/meta/health/ready"])
def test_the_probes_of_an_orchestrator_are_not_limited(api: ApiClient, path: str) -> None:
    responses = [api.send("get", path) for _ in range(8)]

    assert {response.status_code for response in responses} == {200}
    assert "X-RateLimit-Limit" not in responses[0]


def test_disabled_limits_refuse_nothing_and_send_no_headers(settings: Settings, api: ApiClient) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False})

    responses = [api.send("get", INFO) for _ in range(8)]

    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0]


def test_without_redis_limits_still_apply(api: ApiClient) -> None:
    breaker.outage = Outage()

    statuses = [api.send("get", INFO, REMOTE_ADDR="192.0.2.77").status_code for _ in range(5)]

    assert statuses == [200] * 4 + [429]


@pytest.mark.planes
def test_a_real_gateway_counts_for_all_its_workers(gateway: Gateway) -> None:
    early_in_the_minute(20)
    statuses = []
    for number in range(310):
        with RawClient(gateway.port) as connection:
            field = f"X-Forwarded-For: 198.51.100.{number % 250}"
            connection.send(request_bytes("GET", "/api/v1/meta/version", field, "Connection: close"))
            statuses.append(connection.read_answer().status)

    assert statuses.count(200) == 300
    assert statuses[-10:] == [429] * 10
