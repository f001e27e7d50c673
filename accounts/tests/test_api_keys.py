"""API keys: GET and POST /users/me/api-keys, DELETE /users/me/api-keys/{key_id}, and what a key allows."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from redis import Redis

from accounts.api_keys import MAX_KEYS, create_api_key, known_keys
from accounts.models import ApiKey, User
from accounts.tokens.issuing import TokenPair, end_all, issue_tokens
from accounts.users.locks import lock_user, unlock_user
from accounts.users.staff import change_role
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import PERMISSIONS, Role
from ratelimit.engine.limits import RequestLimit

FIELDS = {"key_id", "name", "permissions", "created_at", "expires_at", "last_used_at", "suspended_at"}
KEYS = "/users/me/api-keys"


def create(api: ApiClient, token: str, **changes: Any) -> Any:
    data = {"name": "backup", "permissions": ["blockchain:read", "user:read"]} | changes
    return api.send("post", KEYS, {name: value for name, value in data.items() if value is not ...}, token=token)


def use(api: ApiClient, key: str, path: str = "/auth/status", method: str = "get", **more: Any) -> Any:
    return api.send(method, path, headers={"X-API-Key": key}, **more)


@pytest.fixture
def key(owner: User) -> str:
    """A key of the owner that may read the chain and their profile."""
    return create_api_key(owner, name="backup", permissions=["blockchain:read", "user:read"])[1]


# Creating


def test_a_key_is_shown_when_it_is_created(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = create(api, tokens.access)

    assert response.status_code == 201
    body = response.json()
    assert set(body) == FIELDS | {"api_key"}
    assert (body["name"], body["permissions"]) == ("backup", ["blockchain:read", "user:read"])
    assert (body["expires_at"], body["last_used_at"]) == (None, None)
    status = use(api, body["api_key"]).json()
    assert (status["user_id"], status["method"], status["session_id"]) == (str(owner.pk), "api_key", None)
    assert status["permissions"] == ["blockchain:read", "user:read"]


def test_only_the_hash_of_the_secret_is_stored(api: ApiClient, tokens: TokenPair) -> None:
    key_id, secret = create(api, tokens.access).json()["api_key"].removeprefix("lk_").split("_", 1)

    rows = [str(row) for model in (ApiKey, AuditEvent) for row in model.objects.values()]
    assert len([row for row in rows if key_id in row]) == 2
    assert [row for row in rows if secret in row] == []


def test_creating_and_revoking_is_audited(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    key_id = create(api, tokens.access).json()["key_id"]
    api.send("delete", f"{KEYS}/{key_id}", token=tokens.access)

    created, revoked = (AuditEvent.objects.get(type=f"api_key.{done}") for done in ("created", "revoked"))
    assert created.details.pop("changes") == {
        "name": [None, "backup"], "permissions": [None, ["blockchain:read", "user:read"]], "state": [None, "live"],
    }  # fmt: skip
    assert created.details == {"key_id": key_id, "permissions": ["blockchain:read", "user:read"]}
    assert revoked.details.pop("changes") == {"state": ["live", "revoked"]}
    assert revoked.details == {"key_id": key_id}
    assert {created.subject, created.actor, revoked.subject, revoked.actor} == {str(owner.pk)}


def test_each_field_has_its_rule(api: ApiClient, tokens: TokenPair) -> None:
    rules: list[tuple[str, Any, str]] = [
        ("name", ..., "1002"),
        ("name", "", "1002"),
        ("name", "a" * 101, "1004"),
        ("permissions", ..., "1002"),
        ("permissions", [], "1004"),
        ("permissions", "user:read", "1003"),
        ("permissions", {"user:read": True}, "1003"),
        ("permissions", ["user:read", "fly"], "1003"),
        ("permissions", ["user:read", None], "1002"),
        ("permissions", ["user:read"] * (len(PERMISSIONS[Role.SUPER_ADMIN]) + 1), "1004"),
        ("permissions", ["fly"] * (len(PERMISSIONS[Role.SUPER_ADMIN]) + 1), "1004"),  # the items are not looked at
        ("permissions", ["user:read", "blockchain:write"], "1003"),
        ("permissions", ["admin:read"], "1003"),
        ("expires_at", "2001-01-01T00:00:00Z", "1008"),
        ("expires_at", "soon", "1008"),
        ("expires_at", "2999-02-30T00:00:00Z", "1008"),
        ("expires_at", "0001-01-01T00:00:00+14:00", "1008"),
        ("expires_at", 4102444800, "1008"),
    ]
    answers = [(field, value, create(api, tokens.access, **{field: value})) for field, value, _ in rules]

    assert [(field, value, error_code(answer)) for field, value, answer in answers] == rules
    assert {answer.status_code for _, _, answer in answers} == {422}
    problems = [answer.json()["error"]["details"]["validation_errors"] for _, _, answer in answers]
    assert [problem["field"].partition(".")[0] for [problem] in problems] == [field for field, _, _ in rules]
    assert not ApiKey.objects.exists()


def test_there_are_no_more_than_fifty_live_keys(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    now = timezone.now()
    dead = [{"revoked_at": now}, {"expires_at": now}]
    rows = [*dead, *[{}] * (MAX_KEYS - 1)]
    ApiKey.objects.bulk_create(ApiKey(key_id=f"key-{index}", user=owner, **row) for index, row in enumerate(rows))
    assert create(api, tokens.access).status_code == 201

    response = create(api, tokens.access)

    assert response.status_code == 409
    assert error_code(response) == "4003"


def statuses(api: ApiClient, tokens: TokenPair, times: int) -> list[int]:
    """Request `count` keys; return the answers."""
    return [create(api, tokens.access).status_code for _ in range(times)]


def test_an_ended_key_makes_room_for_another(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    for _ in range(MAX_KEYS):
        create_api_key(owner, name="a key", permissions=["user:read"])
    revoked, expired = ApiKey.objects.values_list("key_id", flat=True)[:2]
    assert statuses(api, tokens, 1) == [409]

    api.send("delete", f"{KEYS}/{revoked}", token=tokens.access)
    assert statuses(api, tokens, 2) == [201, 409]
    ApiKey.objects.filter(key_id=expired).update(expires_at=timezone.now())
    assert statuses(api, tokens, 2) == [201, 409]


def test_a_user_with_more_than_fifty_old_keys_keeps_them_and_gets_no_more(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    ApiKey.objects.bulk_create(ApiKey(key_id=f"key-{index}", user=owner) for index in range(MAX_KEYS + 2))
    assert statuses(api, tokens, 1) == [409]
    assert ApiKey.objects.live().count() == MAX_KEYS + 2

    for index, expected in enumerate((409, 409, 201, 201)):
        api.send("delete", f"{KEYS}/key-{index}", token=tokens.access)
        assert statuses(api, tokens, 1) == [expected]
    assert ApiKey.objects.live().count() == MAX_KEYS


# Listing and revoking


def test_the_list_never_shows_a_secret(api: ApiClient, tokens: TokenPair, node_operator: User) -> None:
    create(api, issue_tokens(node_operator).access)
    created = [create(api, tokens.access, name=name).json() for name in ("first", "second")]

    response = api.send("get", KEYS, token=tokens.access)

    shown = response.json()["api_keys"]
    assert [(row["name"], row["key_id"]) for row in shown] == [
        (row["name"], row["key_id"]) for row in reversed(created)
    ]
    assert {frozenset(row) for row in shown} == {frozenset(FIELDS)}
    for row in created:
        assert row["api_key"].split("_", 2)[2] not in response.content.decode()


def test_a_revoked_key_stops_at_once_and_is_no_longer_listed(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    doomed, other = (create(api, tokens.access).json() for _ in range(2))
    assert use(api, doomed["api_key"]).status_code == 200

    assert api.send("delete", f"{KEYS}/{doomed['key_id']}", token=tokens.access).status_code == 204

    response = use(api, doomed["api_key"])
    assert response.status_code == 401
    assert error_code(response) == "2003"
    assert use(api, other["api_key"]).status_code == 200
    listed = api.send("get", KEYS, token=tokens.access).json()["api_keys"]
    assert [row["key_id"] for row in listed] == [other["key_id"]]


def test_a_remembered_key_that_was_revoked_stays_refused_after_a_flush_of_redis(
    api: ApiClient, tokens: TokenPair, key: str, empty_redis: Redis
) -> None:
    use(api, key)
    api.send("delete", f"{KEYS}/{ApiKey.objects.get().key_id}", token=tokens.access)
    empty_redis.flushall()

    assert error_code(use(api, key)) == "2003"


def test_a_key_is_revoked_once(api: ApiClient, tokens: TokenPair, key: str) -> None:
    path = f"{KEYS}/{ApiKey.objects.get().key_id}"

    assert [api.send("delete", path, token=tokens.access).status_code for _ in range(2)] == [204, 404]


def test_another_users_key_is_unknown_to_the_caller(api: ApiClient, key: str, super_admin: User) -> None:
    response = api.send("delete", f"{KEYS}/{ApiKey.objects.get().key_id}", token=issue_tokens(super_admin).access)

    assert response.status_code == 404
    assert error_code(response) == "4001"
    assert use(api, key).status_code == 200


# Using


@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key"])
def test_the_name_of_the_header_is_case_insensitive(api: ApiClient, key: str, name: str) -> None:
    assert api.send("get", "/users/me", headers={name: key}).status_code == 200


def test_a_key_may_use_the_forwarded_routes_that_its_permissions_allow(api: ApiClient, owner: User, key: str) -> None:
    other = create_api_key(owner, name="profile", permissions=["user:read"])[1]

    assert error_code(use(api, key, "/chain/info")) == "5005"
    assert error_code(use(api, other, "/chain/info")) == "2004"


def test_a_known_key_costs_no_query(
    api: ApiClient, key: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    use(api, key)
    known_keys.clear()
    with django_assert_num_queries(2):  # the row, and when it was used
        assert use(api, key).status_code == 200
    with django_assert_num_queries(0):
        assert use(api, key, "/chain/info").status_code == 502


def test_the_last_use_of_a_key_is_stored(api: ApiClient, tokens: TokenPair, key: str) -> None:
    before = timezone.now() - timedelta(seconds=1)
    use(api, key)

    row = ApiKey.objects.get()
    assert row.last_used_at is not None
    assert before < row.last_used_at <= timezone.now()
    assert api.send("get", KEYS, token=tokens.access).json()["api_keys"][0]["last_used_at"] is not None


def test_each_key_is_counted_on_its_own(api: ApiClient, owner: User, tokens: TokenPair, key: str) -> None:
    other = create_api_key(owner, name="other", permissions=["user:read"])[1]
    credentials = [{"Authorization": f"Bearer {tokens.access}"}, {"X-API-Key": key}, {"X-API-Key": other}]

    answers = [[api.send("get", "/auth/status", headers=one) for _ in range(3)] for one in credentials]

    assert [first["X-RateLimit-Remaining"] for first, _, _ in answers] == ["999"] * 3


@pytest.mark.parametrize("known", [False, True])
def test_a_key_expires(api: ApiClient, owner: User, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    in_an_hour = timezone.now() + timedelta(hours=1)
    key = create_api_key(owner, name="short", permissions=["user:read"], expires_at=in_an_hour)[1]
    assert use(api, key).status_code == 200
    if not known:
        known_keys.clear()
    now = time.time
    monkeypatch.setattr("accounts.api_keys.time.time", lambda: now() + 3601)

    response = use(api, key)

    assert response.status_code == 401
    assert error_code(response) == "2002"


def test_the_expiry_of_a_key_is_shown(api: ApiClient, tokens: TokenPair) -> None:
    body = create(api, tokens.access, expires_at="2999-01-31T12:00:00+02:00").json()

    assert body["expires_at"] == "2999-01-31T10:00:00Z"
    assert use(api, body["api_key"]).json()["expires_at"] == "2999-01-31T10:00:00Z"


@pytest.mark.parametrize("known", [False, True])
def test_a_lock_of_the_owner_stops_the_key_until_the_unlock(api: ApiClient, owner: User, key: str, known: bool) -> None:
    if known:
        use(api, key)
    lock_user(owner, reason="", by="")
    assert error_code(use(api, key)) == "2005"

    unlock_user(owner, by="")
    assert use(api, key).status_code == 200


@pytest.mark.parametrize("known", [False, True])
def test_a_new_role_can_reduce_the_permissions_of_a_key_and_never_extend_them(
    api: ApiClient, node_operator: User, known: bool
) -> None:
    key = create_api_key(node_operator, name="key", permissions=["blockchain:write", "user:read"])[1]
    if known:
        use(api, key)
    seen = []
    for role in (Role.USER, Role.SUPER_ADMIN):
        change_role(node_operator, role, by="")
        seen.append(use(api, key).json()["permissions"])

    assert seen == [["user:read"], ["blockchain:write", "user:read"]]


def test_a_key_outlives_the_owners_logins(api: ApiClient, owner: User, tokens: TokenPair, key: str) -> None:
    use(api, key)
    assert api.send("post", "/auth/logout", {"everywhere": True}, token=tokens.access).status_code == 200

    assert use(api, key).status_code == 200


@pytest.mark.parametrize("known", [False, True])
def test_a_key_of_a_deactivated_owner_is_refused(api: ApiClient, owner: User, key: str, known: bool) -> None:
    if known:
        use(api, key)
    User.objects.filter(pk=owner.pk).update(is_active=False)
    end_all(owner)

    assert error_code(use(api, key)) == "2003"


@pytest.mark.parametrize("path", ["/auth/status", "/chain/info"])
def test_two_credentials_in_one_request_are_refused(api: ApiClient, tokens: TokenPair, key: str, path: str) -> None:
    response = api.send("get", path, token=tokens.access, headers={"X-API-Key": key})

    assert response.status_code == 400
    assert error_code(response) == "1001"


def test_a_malformed_key_is_refused(api: ApiClient, key: str) -> None:
    assert use(api, key).status_code == 200
    other = "A" if key[-1] != "A" else "B"
    broken = [
        "", "lk_", key[:-1], f"{key}A", f"{key[:-1]}{other}", f"lk-{key[3:]}", key.upper(), key[3:], key.swapcase(),
        f"lk_{'a' * 12}_{key[16:]}", f"{key}\n", f"{key}, {key}", f"Bearer {key}", "lk_' OR 1=1 --", "ä" * 59,
        "x" * 8000,
    ]  # fmt: skip

    answers = [use(api, text) for text in broken]

    found = [(answer.status_code, error_code(answer), answer["WWW-Authenticate"]) for answer in answers]
    assert found == [(401, "2003", "Bearer")] * len(broken)


def test_a_key_is_not_accepted_as_a_bearer_token_nor_a_token_as_a_key(
    api: ApiClient, tokens: TokenPair, key: str
) -> None:
    assert error_code(api.send("get", "/auth/status", token=key)) == "2003"
    assert error_code(use(api, tokens.access)) == "2003"


def test_a_flood_of_bad_keys_meets_the_limit_of_its_address(
    api: ApiClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratelimit.throttling.limit_for", lambda name, *_: RequestLimit(name, 3, 2))
    bad = (use(api, f"lk_{'a' * 12}_{index:043d}") for index in range(20))

    refused, answer = next((index, answer) for index, answer in enumerate(bad) if answer.status_code != 401)

    assert refused in (5, 6, 7, 8)  # the minute may turn in between
    assert (answer.status_code, error_code(answer)) == (429, "3001")
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert use(api, "lk_", REMOTE_ADDR="203.0.113.9").status_code == 401
    assert use(api, key).status_code == 200


def test_a_key_manages_no_keys(api: ApiClient, owner: User) -> None:
    key = create_api_key(owner, name="all", permissions=["user:read", "user:update"])[1]
    key_id = ApiKey.objects.get().key_id

    answers = [
        use(api, key, KEYS),
        use(api, key, KEYS, "post", data={"name": "more", "permissions": ["user:read"]}),
        use(api, key, f"{KEYS}/{key_id}", "delete"),
    ]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(403, "2004")] * 3
    assert list(ApiKey.objects.values_list("key_id", "revoked_at")) == [(key_id, None)]
