"""What the gateway teaches its edge about a caller, and to whom it says so."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.keyring import keyring_cache
from conftest import ApiClient
from lucid_gateway.policy.roles import PERMISSIONS, Role
from proxy.edge.revisions import worker_revisions
from ratelimit.engine.limits import default_limit
from ratelimit.ruling import set_limit_rule

SECRET = "the-secret-of-the-edge-0123456789-abcdef"


@pytest.fixture(autouse=True)
def edge(settings: Any) -> None:
    """A gateway with an edge; each test's client builds its middleware."""
    settings.ENV = settings.ENV.model_copy(update={"EDGE_SECRET": SECRET})
    settings.MIDDLEWARE = ["proxy.edge.teaching.TeachingMiddleware", *settings.MIDDLEWARE]


def lesson(api: ApiClient, *, secret: str = SECRET, path: str = "/chain/height", **credential: Any) -> Any:
    """Return what an answer teaches, None if it teaches nothing."""
    headers = {"X-Lucid-Edge": secret, **credential.pop("headers", {})}
    answer = api.send("get", path, headers=headers, **credential)
    text = answer.headers.get("X-Lucid-Caller")
    return json.loads(text) if text else None


def test_a_lesson_says_who_the_caller_is_and_what_limits_the_caller(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    found = lesson(api, token=tokens.access)

    assert (found["user_id"], found["role"], found["epoch"]) == (str(owner.pk), "user", owner.token_epoch)
    assert set(found["permissions"].split(",")) == PERMISSIONS[Role.USER]
    assert found["until"] <= time.time() + 15 * 60
    assert found["tiers"] == {"authenticated": [1000, 2000], "blockchain_query": [500, 1000]}
    assert found["api_key"] is False
    assert tokens.access not in json.dumps(found)


def test_a_lesson_about_an_api_key_holds_for_a_minute(api: ApiClient, owner: User) -> None:
    key, text = create_api_key(owner, name="k", permissions=["blockchain:read"])

    found = lesson(api, headers={"X-API-Key": text})

    assert (found["credential"], found["api_key"], found["permissions"]) == (key.key_id, True, "blockchain:read")
    assert time.time() + 50 < found["until"] <= time.time() + 60


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "x", "é"])
def test_nobody_without_the_secret_is_taught(api: ApiClient, tokens: TokenPair, secret: str) -> None:
    assert lesson(api, secret=secret, token=tokens.access) is None


@pytest.mark.parametrize("token", [None, "not.a.token"])
def test_a_request_without_a_valid_credential_teaches_nothing(api: ApiClient, db: None, token: str | None) -> None:
    assert lesson(api, token=token) is None


def test_a_caller_who_lacks_the_permission_is_still_known(api: ApiClient, tokens: TokenPair) -> None:
    assert lesson(api, path="/admin/audit", token=tokens.access)["role"] == "user"


@pytest.mark.parametrize(
    "rule",
    [
        {"tier": "all", "concurrent_requests": 3},
        {"tier": "authenticated", "limit": 3, "observe_only": True},
        {"tier": "all", "daily_quota": 3, "observe_only": True},
    ],
    ids=["concurrent requests", "a limit in shadow mode", "a quota in shadow mode"],
)
def test_a_caller_with_a_limit_that_only_the_gateway_can_apply_is_not_taught(
    api: ApiClient, owner: User, tokens: TokenPair, rule: dict[str, Any]
) -> None:
    set_limit_rule(subject=f"user:{owner.pk}", by="test", **rule)

    assert lesson(api, token=tokens.access) is None


def test_the_limits_of_a_lesson_are_those_of_the_callers_rules(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    ends = timezone.now() + timedelta(seconds=40)
    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", by="test", limit=7, burst=0, expires_at=ends)
    set_limit_rule(tier="all", subject="", by="test", daily_quota=99)

    found = lesson(api, token=tokens.access)

    assert found["tiers"]["authenticated"] == [7, 0]
    assert found["quota"] == 99
    assert found["until"] == int(ends.timestamp())


def test_without_rate_limits_a_lesson_has_no_numbers(api: ApiClient, tokens: TokenPair, settings: Any) -> None:
    default_limit.cache_clear()
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_ENABLED": False, "RATE_LIMIT_CONCURRENT_REQUESTS": 5})

    found = lesson(api, token=tokens.access)
    default_limit.cache_clear()

    assert found["tiers"] == {"authenticated": [0, 0], "blockchain_query": [0, 0]}


class KeysChangeMeanwhile:
    """A middleware: the keys are others when the answer comes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        keyring_cache.rows = [("another", "active")]
        return response


def test_a_lesson_rests_on_the_keys_that_verified_the_token(api: ApiClient, tokens: TokenPair, settings: Any) -> None:
    settings.MIDDLEWARE.insert(1, f"{__name__}.{KeysChangeMeanwhile.__name__}")
    before = worker_revisions.keyring()

    found = lesson(api, token=tokens.access)

    assert found["keyring"] == before != worker_revisions.keyring()


def test_a_lesson_names_the_revisions_on_which_it_rests(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    before = lesson(api, token=tokens.access)

    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", by="test", limit=7)
    after = lesson(api, token=tokens.access)

    assert after["limits"] == worker_revisions.limits()[after["shard"]] != before["limits"]
    assert after["keyring"] == before["keyring"] == worker_revisions.keyring()


@pytest.mark.parametrize("path", ["/chain/height", "/wallets", "/users/me", "/rdp"])  # this gateway has no rdp cluster
def test_a_handshake_where_there_are_no_websockets_gets_no_tunnel(api: ApiClient, tokens: TokenPair, path: str) -> None:
    headers = {"X-Lucid-Edge": SECRET, "X-Lucid-Handshake": "1", "Upgrade": "websocket"}

    answer = api.send("get", path, headers=headers, token=tokens.access)

    assert answer.status_code == {"/users/me": 200, "/rdp": 404}.get(path, 501)
    assert not [name for name in answer.headers if name.lower().startswith(("x-lucid", "x-accel"))]


def test_staff_see_which_plane_answered_and_a_lesson_says_who_is_staff(
    api: ApiClient, admin: User, tokens: TokenPair
) -> None:
    of_admin = issue_tokens(admin).access

    assert api.send("get", "/users/me", token=of_admin).headers["X-Lucid-Plane"] == "gateway"
    for path, token in (("/users/me", tokens.access), ("/meta/info", None)):
        assert "X-Lucid-Plane" not in api.send("get", path, token=token).headers
    assert (lesson(api, token=of_admin)["staff"], lesson(api, token=tokens.access)["staff"]) == (True, False)


def test_only_staff_learn_where_a_request_is_explained(api: ApiClient, admin: User, tokens: TokenPair) -> None:
    assert "console" not in lesson(api, token=tokens.access)
    assert "/admin/requests/" in lesson(api, token=issue_tokens(admin).access)["console"]
