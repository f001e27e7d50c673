"""Quota and concurrency set at run time on a real gateway: on all workers within seconds, and only for their user."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import requests

from lucid_gateway.kernel.loops import SECONDS
from lucid_gateway.policy import keys
from ratelimit.tests.crowd import access_token
from testing.gateway import Gateway
from testing.http.client import RawClient, request_bytes
from testing.parallel import in_parallel
from testing.waiting import wait_until

pytestmark = pytest.mark.planes
INFO, SLOW = "/chain/info", "/chain/consensus/demo/slow?seconds=1"
EVENTS = "/api/v1/chain/consensus/demo/events?count=10000&interval=0.05"
# Changed rules are read within two seconds; the rest is for a busy machine.
SOON = 15.0
MARK = 987  # a limit that shows which workers have read the rules
TIERS = ("all", "authenticated")


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> str:
    """The super admin's access token."""
    return gateway.issue_token("admin@lucid.test")


@pytest.fixture
def user() -> str:
    """The access token of a user of this test alone."""
    return access_token()


def send(gateway: Gateway, method: str, path: str, token: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.request(method, gateway.url + path, headers=headers, timeout=20, **more)


def ask(gateway: Gateway, token: str, times: int = 1, path: str = INFO) -> list[str]:
    """Send requests one after another; return `in` or the code of the refusal for each."""
    return [code(send(gateway, "GET", path, token)) for _ in range(times)]


def code(response: requests.Response) -> str:
    return str(response.json()["error"]["code"]).removeprefix("LUCID_ERR_") if response.status_code >= 400 else "in"


def subject_of(token: str) -> str:
    return f"user:{jwt.decode(token, options={'verify_signature': False})['user_id']}"


def wait_for_limit(gateway: Gateway, token: str, limit: int) -> None:
    """Return when every worker sends the limit to the user."""
    time.sleep(SECONDS + 0.5)

    def told() -> set[str]:
        return {send(gateway, "GET", INFO, token).headers["X-RateLimit-Limit"] for _ in range(16)}

    wait_until(lambda: told() == {str(limit)}, SOON)


def lift(gateway: Gateway, admin: str, token: str) -> list[int]:
    queries = [{"tier": tier, "subject": subject_of(token)} for tier in TIERS]
    return [send(gateway, "DELETE", "/admin/limits", admin, params=query).status_code for query in queries]


@pytest.fixture
def limit(gateway: Gateway, admin: str, user: str) -> Iterator[Callable[..., None]]:
    """Sets totals for the user, and returns when all workers apply them."""

    def set_totals(**totals: int) -> None:
        for tier, numbers in zip(TIERS, (totals, {"limit": MARK}), strict=True):
            rule = {"tier": tier, "subject": subject_of(user)} | numbers
            assert send(gateway, "POST", "/admin/limits", admin, json=rule).status_code == 201
        wait_for_limit(gateway, user, MARK)

    yield set_totals
    lift(gateway, admin, user)


def test_a_quota_is_exact_over_all_workers(gateway: Gateway, user: str, limit: Callable[..., None]) -> None:
    limit(daily_quota=5)
    with gateway.redis() as redis:
        redis.delete(keys.quota(f"{{{subject_of(user)}}}"))

    answers = in_parallel(20, lambda _: send(gateway, "GET", INFO, user))

    assert sorted(code(answer) for answer in answers) == ["3002"] * 15 + ["in"] * 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert abs(int(refused.headers["Retry-After"]) - (86_400 - time.time() % 86_400)) < 20
    assert ask(gateway, access_token()) == ["in"]


def test_a_lifted_quota_refuses_nothing(gateway: Gateway, admin: str, user: str, limit: Callable[..., None]) -> None:
    limit(daily_quota=1)
    assert ask(gateway, user, 8) == ["3002"] * 8

    assert lift(gateway, admin, user) == [204, 204]

    wait_for_limit(gateway, user, 1_000)
    assert ask(gateway, user, 8) == ["in"] * 8


def test_as_many_parallel_requests_are_admitted_as_the_limit_allows(
    gateway: Gateway, user: str, limit: Callable[..., None]
) -> None:
    limit(concurrent_requests=3)
    tokens = [user] * 12 + [access_token()] * 6

    answers = in_parallel(18, lambda number: send(gateway, "GET", SLOW, tokens[number]))

    assert sorted(code(answer) for answer in answers[:12]) == ["3005"] * 9 + ["in"] * 3
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} == {"1"}
    assert {code(answer) for answer in answers[12:]} == {"in"}
    assert ask(gateway, user, 8) == ["in"] * 8


def test_an_abandoned_stream_releases_its_lease(gateway: Gateway, user: str, limit: Callable[..., None]) -> None:
    limit(concurrent_requests=1)
    deadline = time.monotonic() + SOON
    with contextlib.ExitStack() as stack:
        while True:  # the lease of the previous request is released after its last byte
            connection = stack.enter_context(RawClient(gateway.port))
            connection.send(request_bytes("GET", EVENTS, f"Authorization: Bearer {user}"))
            if connection.read_head().status == 200:
                break
            assert time.monotonic() < deadline

        assert ask(gateway, user, 8) == ["3005"] * 8

    wait_until(lambda: ask(gateway, user) == ["in"], SOON)
