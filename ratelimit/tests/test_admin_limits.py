"""/admin/limits: limits that override the environment's, for everyone, a user or an API key."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from ratelimit.models import LimitRule
from ratelimit.rules import rules_cache
from testing.parallel import in_parallel

PATH = "/admin/limits"
USER, KEY = f"user:{uuid.UUID(int=7)}", "key:abcdefghijkl"
RULE = {"tier": "authenticated", "limit": 50}
FIELDS = {
    "rule_id", "tier", "subject", "limit", "burst", "concurrent_requests", "daily_quota", "observe_only", "reason",
    "created_by", "created_at", "expires_at",
}  # fmt: skip
EMPTY = {"limit": None, "burst": None, "concurrent_requests": None, "daily_quota": None, "observe_only": False}


@pytest.fixture
def token(admin: User) -> str:
    """The admin's access token."""
    return issue_tokens(admin).access


def codes(response: Any) -> dict[str, str]:
    """Return the error code of each refused field."""
    return {problem["field"]: problem["code"] for problem in response.json()["error"]["details"]["validation_errors"]}


def numbers(rule: dict[str, Any]) -> dict[str, Any]:
    return {name: rule[name] for name in EMPTY}


# Listing


def test_without_rules_the_list_is_empty(api: ApiClient, token: str) -> None:
    assert api.send("get", PATH, token=token).json() == {"limits": []}


def test_the_active_rules_are_listed_by_tier_and_subject(api: ApiClient, token: str) -> None:
    ends = timezone.now() + timedelta(hours=1)
    LimitRule.objects.create(tier="public", limit=7, expires_at=ends)
    LimitRule.objects.create(tier="authenticated", subject=USER, limit=8, reason="why", created_by="by")
    LimitRule.objects.create(tier="authenticated", limit=9)
    LimitRule.objects.create(tier="admin", limit=1, expires_at=timezone.now() - timedelta(seconds=1))

    shown = api.send("get", PATH, token=token).json()["limits"]

    assert [(rule["tier"], rule["subject"], rule["limit"]) for rule in shown] == [
        ("authenticated", "", 9), ("authenticated", USER, 8), ("public", "", 7),
    ]  # fmt: skip
    assert set(shown[0]) == FIELDS
    assert (shown[1]["reason"], shown[1]["created_by"], shown[1]["expires_at"]) == ("why", "by", None)


# Setting


def test_limits_can_be_set_for_everyone(api: ApiClient, token: str, admin: User) -> None:
    response = api.send("post", PATH, RULE, token=token)

    assert response.status_code == 201
    body = response.json()
    assert set(body) == FIELDS
    assert (body["tier"], body["subject"]) == ("authenticated", "")
    assert numbers(body) == EMPTY | {"limit": 50}
    assert (body["created_by"], body["reason"], body["expires_at"]) == (str(admin.pk), "", None)


@pytest.mark.parametrize(
    "fields",
    [
        {"tier": "public", "limit": 1, "burst": 0},
        {"tier": "chunk_upload", "limit": 1_000_000, "burst": 2_000_000_000},
        {"tier": "all", "concurrent_requests": 3, "daily_quota": 0},
        {"tier": "admin", "observe_only": True},
    ],
    ids=lambda fields: fields["tier"],
)
def test_each_tier_can_be_set_for_each_kind_of_subject(api: ApiClient, token: str, fields: dict[str, Any]) -> None:
    for subject in ("", USER, KEY):
        response = api.send("post", PATH, {"subject": subject} | fields, token=token)

        assert (response.status_code, response.json()["subject"]) == (201, subject)
        told = {"tier": response.json()["tier"]} | numbers(response.json())
        assert told == EMPTY | fields


def test_a_new_rule_replaces_all_numbers_of_the_old_one(api: ApiClient, token: str) -> None:
    ends = timezone.now() + timedelta(hours=1)
    old = RULE | {"burst": 3, "observe_only": True, "reason": "old", "expires_at": ends.isoformat()}
    first = api.send("post", PATH, old, token=token).json()

    second = api.send("post", PATH, {"tier": "authenticated", "burst": 9}, token=token).json()

    assert second["rule_id"] == first["rule_id"]
    assert numbers(second) == EMPTY | {"burst": 9}
    assert (second["reason"], second["expires_at"]) == ("", None)
    assert LimitRule.objects.count() == 1


def test_new_limits_apply_and_are_in_the_headers(api: ApiClient, token: str, owner: User, tokens: TokenPair) -> None:
    api.send("post", PATH, RULE | {"subject": f"user:{owner.pk}", "limit": 2, "burst": 1}, token=token)

    responses = [api.send("get", "/users/me", token=tokens.access) for _ in range(4)]

    assert [response.status_code for response in responses] == [200] * 3 + [429]
    assert responses[0]["RateLimit-Policy"] == '"authenticated";q=2;w=60, "authenticated-burst";q=1;w=300'
    assert api.send("get", "/users/me", token=token)["X-RateLimit-Limit"] == "1000"


def test_a_key_has_limits_of_its_own(api: ApiClient, token: str, owner: User, tokens: TokenPair) -> None:
    key, text = create_api_key(owner, name="script", permissions=["user:read"])
    api.send("post", PATH, RULE | {"subject": f"key:{key.key_id}", "limit": 7}, token=token)

    assert api.send("get", "/users/me", headers={"X-API-Key": text})["X-RateLimit-Limit"] == "7"
    assert api.send("get", "/users/me", token=tokens.access)["X-RateLimit-Limit"] == "1000"


def test_a_quota_covers_all_tiers_until_midnight(api: ApiClient, token: str, owner: User, tokens: TokenPair) -> None:
    api.send("post", PATH, {"tier": "all", "subject": f"user:{owner.pk}", "daily_quota": 2}, token=token)

    responses = [api.send("get", path, token=tokens.access) for path in ("/users/me", "/chain/blocks", "/users/me")]

    assert [response.status_code for response in responses] == [200, 502, 429]
    assert error_code(responses[2]) == "3002"
    now = timezone.now()
    left = timedelta(days=1) - timedelta(hours=now.hour, minutes=now.minute, seconds=now.second)
    assert abs(int(responses[2]["Retry-After"]) - left.total_seconds()) <= 3


def test_operators_who_set_the_same_limit_in_parallel_all_succeed(transactional_db: None) -> None:
    token = issue_tokens(make_user("admin", Role.ADMIN)).access

    responses = in_parallel(
        8, lambda number: ApiClient(HTTP_HOST="testserver").send("post", PATH, RULE | {"limit": number + 1}, token)
    )

    assert [response.status_code for response in responses] == [201] * 8
    assert LimitRule.objects.count() == 1


MISPLACED = {"": "invalid"}


BAD_RULES: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"limit": 5}, "1002", {"tier": "required"}),
    ({"tier": "evil"}, "1003", {"tier": "invalid_choice"}),
    ({"tier": "public", "subject": "nobody"}, "1003", {"subject": "invalid"}),
    ({"tier": "public", "subject": "user:x"}, "1003", {"subject": "invalid"}),
    ({"tier": "public", "subject": "ip:192.0.2.1"}, "1003", {"subject": "invalid"}),
    ({"tier": "public", "subject": USER.upper()}, "1003", {"subject": "invalid"}),
    ({"tier": "public", "limit": 0}, "1004", {"limit": "min_value"}),
    ({"tier": "public", "limit": 2_000_000_001}, "1004", {"limit": "max_value"}),
    ({"tier": "public", "burst": -1}, "1004", {"burst": "min_value"}),
    ({"tier": "public", "limit": "many"}, "1003", {"limit": "invalid"}),
    ({"tier": "public", "limit": None}, "1002", {"limit": "null"}),
    ({"tier": "all", "concurrent_requests": 1_000_001}, "1004", {"concurrent_requests": "max_value"}),
    ({"tier": "all", "daily_quota": -1}, "1004", {"daily_quota": "min_value"}),
    ({"tier": "all", "limit": 5}, "1003", MISPLACED),
    ({"tier": "all", "burst": 0}, "1003", MISPLACED),
    ({"tier": "public", "daily_quota": 5}, "1003", MISPLACED),
    ({"tier": "public", "concurrent_requests": 0}, "1003", MISPLACED),
    ({"tier": "public", "reason": "x" * 201}, "1004", {"reason": "max_length"}),
    ({"tier": "public", "observe_only": "perhaps"}, "1003", {"observe_only": "invalid"}),
    ({"tier": "public", "expires_at": "2020-01-01T00:00:00Z"}, "1008", {"expires_at": "invalid_date"}),
    ({"tier": "public", "expires_at": 5}, "1008", {"expires_at": "invalid_date"}),
    ({"tier": "evil", "limit": 0}, "1001", {"tier": "invalid_choice", "limit": "min_value"}),
]


def test_a_bad_rule_is_422(api: ApiClient, token: str) -> None:
    for fields, code, found in BAD_RULES:
        response = api.send("post", PATH, fields, token=token)

        assert (response.status_code, error_code(response), codes(response)) == (422, code, found), fields
    assert not LimitRule.objects.exists()


# Lifting


def test_after_a_rule_is_lifted_the_limits_of_the_environment_apply(api: ApiClient, token: str) -> None:
    for subject in ("", USER):
        api.send("post", PATH, RULE | {"subject": subject}, token=token)
    api.send("post", PATH, {"tier": "all", "daily_quota": 100}, token=token)

    response = api.send("delete", f"{PATH}?tier=authenticated", token=token)

    assert (response.status_code, response.content) == (204, b"")
    left = api.send("get", PATH, token=token).json()["limits"]
    assert [(rule["tier"], rule["subject"]) for rule in left] == [("all", ""), ("authenticated", USER)]
    assert set(rules_cache.current.limits) == {("all", ""), ("authenticated", USER)}


def test_a_rule_of_a_subject_is_lifted_by_the_subject(api: ApiClient, token: str) -> None:
    for subject in ("", USER, KEY):
        api.send("post", PATH, RULE | {"subject": subject}, token=token)

    assert api.send("delete", f"{PATH}?tier=authenticated&subject={USER}", token=token).status_code == 204
    assert set(LimitRule.objects.values_list("subject", flat=True)) == {"", KEY}


NOT_LIFTED = {
    "?tier=admin": (404, "4001"), f"?tier=public&subject={USER}": (404, "4001"), "": (422, "1002"),
    "?tier=evil": (422, "1003"), "?tier=public&subject=nobody": (422, "1003"),
}  # fmt: skip


def test_a_rule_that_does_not_exist_cannot_be_lifted(api: ApiClient, token: str) -> None:
    LimitRule.objects.create(tier="public", limit=5)
    responses = {query: api.send("delete", f"{PATH}{query}", token=token) for query in NOT_LIFTED}

    found = {query: (response.status_code, error_code(response)) for query, response in responses.items()}
    assert found == NOT_LIFTED
    assert LimitRule.objects.count() == 1


# Access


def each_method(api: ApiClient, token: str | None) -> list[Any]:
    return [
        api.send("get", PATH, token=token),
        api.send("post", PATH, RULE, token=token),
        api.send("delete", f"{PATH}?tier=authenticated", token=token),
    ]


@pytest.mark.parametrize("role", ["user", "node_operator"])
def test_other_roles_are_refused(api: ApiClient, db: None, role: str) -> None:
    LimitRule.objects.create(tier="authenticated", limit=5)
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [error_code(response) for response in each_method(api, token)] == ["2004"] * 3
    assert LimitRule.objects.get().limit == 5


@pytest.mark.parametrize("role", ["admin", "super_admin"])
def test_staff_are_allowed_every_method(api: ApiClient, db: None, role: str) -> None:
    token = issue_tokens(make_user("somebody", Role(role))).access

    assert [response.status_code for response in each_method(api, token)] == [200, 201, 204]


def test_a_key_is_allowed_what_its_permissions_allow(api: ApiClient, admin: User) -> None:
    reads = {"X-API-Key": create_api_key(admin, name="reads", permissions=["admin:read"])[1]}

    assert api.send("get", PATH, headers=reads).status_code == 200
    assert error_code(api.send("post", PATH, RULE, headers=reads)) == "2004"


def test_anonymous_requests_are_refused(api: ApiClient, db: None) -> None:
    assert [error_code(response) for response in each_method(api, None)] == ["2001"] * 3


# Audit log


NOTHING = {"limit": None, "burst": None, "expires_at": None, "reason": ""}


def test_operator_changes_are_audited(api: ApiClient, token: str, admin: User) -> None:
    ends = (timezone.now() + timedelta(hours=1)).isoformat()
    api.send("post", PATH, RULE | {"subject": USER, "burst": 0, "reason": "abuse", "expires_at": ends}, token=token)
    api.send("post", PATH, RULE, token=token)
    api.send("delete", f"{PATH}?tier=authenticated&subject={USER}", token=token)
    of_user, of_all, lifted = AuditEvent.objects.filter(type__startswith="limit.").order_by("created_at")

    assert (of_user.type, of_user.actor, of_user.subject) == ("limit.set", str(admin.pk), USER)
    assert of_user.details.items() >= {"tier": "authenticated", "limit": 50, "burst": 0, "reason": "abuse"}.items()
    assert (of_all.type, of_all.subject) == ("limit.set", "everyone")
    assert (lifted.type, lifted.actor, lifted.subject) == ("limit.lifted", str(admin.pk), USER)
    assert of_user.details["changes"]["limit"] == [None, 50]
    undone = {name: [of_user.details["changes"][name][1], empty] for name, empty in NOTHING.items()}
    assert lifted.details.pop("changes") == undone
    assert lifted.details == {"tier": "authenticated"}


def test_refused_requests_leave_no_event(api: ApiClient, token: str) -> None:
    api.send("post", PATH, {"tier": "evil"}, token=token)
    api.send("delete", f"{PATH}?tier=public", token=token)

    assert not AuditEvent.objects.filter(type__startswith="limit.").exists()


@pytest.mark.parametrize("subject", [" ", "\u2028", "\t"])
def test_a_blank_subject_does_not_mean_everyone(api: ApiClient, token: str, subject: str) -> None:
    refused = api.send("post", PATH, {"tier": "admin", "subject": subject, "limit": 1}, token=token)
    assert (refused.status_code, error_code(refused)) == (422, "1003")
    assert not LimitRule.objects.exists()
