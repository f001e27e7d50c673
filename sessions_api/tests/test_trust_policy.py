"""/trust/policies/{policy_id}: reading, replacing, changing and deleting; conditional requests; sessions in use."""

import uuid
from typing import Any

import pytest
from django.db import IntegrityError

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.policy.errors import GatewayError, NotFound, PreconditionFailed
from lucid_gateway.policy.roles import Role
from sessions_api import policies
from sessions_api.models import Session, TrustPolicy
from sessions_api.policies import change_policy, delete_policy
from sessions_api.tests.trust import (
    FIELDS,
    PATH,
    POLICY,
    RULE,
    WHOLE_RULE,
    at,
    events,
    policy_of,
    problems,
    session_with,
)
from testing.parallel import in_parallel

METHODS = {"get": None, "put": POLICY, "patch": {"enabled": False}, "delete": None}


@pytest.fixture
def policy(owner: User) -> TrustPolicy:
    return policy_of(owner, description="of age")


def known(policy: TrustPolicy) -> TrustPolicy:
    """Return the policy from the database."""
    return TrustPolicy.objects.get(pk=policy.pk)


# Reading


@pytest.mark.parametrize("path", [PATH, "/trust-policies"])
def test_the_owner_may_read_the_policy(api: ApiClient, policy: TrustPolicy, tokens: TokenPair, path: str) -> None:
    response = api.send("get", f"{path}/{policy.pk}", token=tokens.access)
    assert response.status_code == 200
    assert set(response.json()) == FIELDS
    assert response.json()["rules"] == [WHOLE_RULE]


def test_staff_may_read_the_policy_but_not_change_it(api: ApiClient, policy: TrustPolicy) -> None:
    token = issue_tokens(make_user("admin", Role.ADMIN)).access
    found = {method: api.send(method, at(policy), data, token=token).status_code for method, data in METHODS.items()}
    assert found == {"get": 200, "put": 404, "patch": 404, "delete": 404}
    assert known(policy).version == 1


def test_other_users_do_not_find_the_policy(api: ApiClient, policy: TrustPolicy, node_operator: User) -> None:
    token = issue_tokens(node_operator).access
    answers = [api.send(method, at(policy), data, token=token) for method, data in METHODS.items()]
    assert {(answer.status_code, error_code(answer)) for answer in answers} == {(404, "4001")}
    assert known(policy).version == 1


@pytest.mark.parametrize(("policy_id", "code"), [("mine", "1005"), (str(uuid.UUID(int=7)), "4001")])
def test_an_invalid_or_unknown_id_is_refused(api: ApiClient, tokens: TokenPair, policy_id: str, code: str) -> None:
    path = f"{PATH}/{policy_id}"
    answers = [api.send(method, path, data, token=tokens.access) for method, data in METHODS.items()]
    assert {error_code(answer) for answer in answers} == {code}


# Changing


def test_put_replaces_all_fields(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    new = {"name": "Nobody", "rules": [RULE | {"rule_id": "new", "type": "deny"}]}
    body = api.send("put", at(policy), new, token=tokens.access).json()

    assert (body["policy_id"], body["name"], body["description"], body["enabled"]) == (
        str(policy.pk), "Nobody", "", True,
    )  # fmt: skip
    assert [rule["rule_id"] for rule in body["rules"]] == ["new"]
    assert body["updated_at"] > body["created_at"]
    assert api.send("get", at(policy), token=tokens.access).json() == body


@pytest.mark.parametrize(
    "change",
    [{"name": "$new"}, {"description": ""}, {"enabled": False}, {"rules": [WHOLE_RULE | {"condition": "a == '$b'"}]}],
)
def test_patch_changes_only_what_is_given(
    api: ApiClient, policy: TrustPolicy, tokens: TokenPair, change: dict[str, Any]
) -> None:
    before = api.send("get", at(policy), token=tokens.access).json()
    body = api.send("patch", at(policy), change, token=tokens.access).json()
    assert body == before | change | {"updated_at": body["updated_at"]}
    assert body["updated_at"] > before["updated_at"]


def test_an_empty_patch_changes_nothing(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    assert api.send("patch", at(policy), {}, token=tokens.access).status_code == 200
    assert known(policy).version == 1
    assert events("changed") == []


MISFITS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("put", {"rules": [RULE]}, {"name": "required"}),
    ("put", {"name": "a"}, {"rules": "required"}),
    ("patch", {"rules": [{"rule_id": "a", "type": "deny"}]},
     {"rules.0.condition": "required", "rules.0.action": "required"}),
    ("patch", {"rules": []}, {"rules": "min_length"}),
    ("patch", {"rules": [RULE, RULE]}, {"rules.0.rule_id": "unique", "rules.1.rule_id": "unique"}),
    ("patch", {"rules": [RULE | {"condition": "a a"}]}, {"rules.0.condition": "invalid"}),
]  # fmt: skip


def test_an_invalid_change_changes_nothing(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    answers = [api.send(method, at(policy), data, token=tokens.access) for method, data, _ in MISFITS]
    assert [problems(answer) for answer in answers] == [wrong for _, _, wrong in MISFITS]
    assert known(policy).version == 1


def test_a_change_is_in_the_audit_log(api: ApiClient, owner: User, policy: TrustPolicy, tokens: TokenPair) -> None:
    api.send("patch", at(policy), {"name": "b", "enabled": False}, token=tokens.access)
    changes = {"name": ["Adults", "b"], "enabled": [True, False]}
    assert events("changed") == [
        (str(owner.pk), str(policy.pk), {"fields": ["enabled", "name"], "changes": changes}),
    ]


# Conditional requests


def test_the_tag_is_the_same_until_the_policy_changes(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    first, second = (api.send("get", at(policy), token=tokens.access)["ETag"] for _ in range(2))
    changed = api.send("patch", at(policy), {"name": "b"}, token=tokens.access)["ETag"]
    assert first == second != changed
    assert api.send("get", at(policy), token=tokens.access)["ETag"] == changed


def test_a_new_policy_has_the_same_tag_as_when_it_is_read(api: ApiClient, tokens: TokenPair) -> None:
    made = api.send("post", PATH, POLICY, token=tokens.access)
    assert api.send("get", f"{PATH}/{made.json()['policy_id']}", token=tokens.access)["ETag"] == made["ETag"]


def test_a_client_with_the_current_policy_gets_304(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    tag = api.send("get", at(policy), token=tokens.access)["ETag"]
    answer = api.send("get", at(policy), token=tokens.access, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)


@pytest.mark.parametrize(("method", "data"), [item for item in METHODS.items() if item[0] != "get"])
def test_a_change_with_a_stale_tag_is_refused(
    api: ApiClient, policy: TrustPolicy, tokens: TokenPair, method: str, data: Any
) -> None:
    tag = api.send("get", at(policy), token=tokens.access)["ETag"]
    api.send("patch", at(policy), {"description": "meanwhile"}, token=tokens.access)

    for stale in (tag, f'W/{tag}, "x"'):
        response = api.send(method, at(policy), data, token=tokens.access, headers={"If-Match": stale})
        assert (response.status_code, error_code(response)) == (412, "4003")
    assert known(policy).description == "meanwhile"
    new = response.json()["error"]["details"]["etag"]
    assert api.send(method, at(policy), data, token=tokens.access, headers={"If-Match": new}).status_code < 300


@pytest.mark.django_db(transaction=True)
def test_one_of_several_parallel_changes_with_the_same_tag_succeeds(policy: TrustPolicy) -> None:
    def change(number: int) -> bool:
        try:
            return bool(change_policy(policy, version=1, name=f"{number}"))
        except PreconditionFailed:
            return False

    answers = in_parallel(8, change)
    assert sorted(answers) == [False] * 7 + [True]
    assert (known(policy).name, known(policy).version) == (f"{answers.index(True)}", 2)


@pytest.mark.django_db(transaction=True)
def test_parallel_changes_of_different_fields_are_all_kept(policy: TrustPolicy) -> None:
    changes: list[dict[str, Any]] = [{"name": "new"}, {"description": "new"}, {"enabled": False}, {"rules": []}]
    in_parallel(4, lambda number: change_policy(policy, version=None, **changes[number]))
    now = known(policy)
    assert (now.name, now.description, now.enabled, now.rules, now.version) == ("new", "new", False, [], 5)


@pytest.mark.django_db(transaction=True)
def test_one_of_several_parallel_deletions_succeeds(policy: TrustPolicy) -> None:
    assert sorted(in_parallel(6, lambda _: outcome_of_deletion(policy))) == ["", *["NotFound"] * 5]


def outcome_of_deletion(policy: TrustPolicy, **options: Any) -> str:
    """Delete the policy; return the name of the error, or of success."""
    try:
        delete_policy(policy, version=None, **options)
    except GatewayError as error:
        return type(error).__name__
    return ""


def test_a_deleted_policy_cannot_be_changed(policy: TrustPolicy) -> None:
    delete_policy(policy, version=None)
    with pytest.raises(NotFound):
        change_policy(policy, version=1, name="b")


# Deleting


def test_a_deleted_policy_is_not_found(api: ApiClient, owner: User, policy: TrustPolicy, tokens: TokenPair) -> None:
    assert api.send("delete", at(policy), token=tokens.access).status_code == 204
    assert api.send("get", at(policy), token=tokens.access).status_code == 404
    assert events("deleted") == [(str(owner.pk), str(policy.pk), {"detached_sessions": 0})]


def test_a_policy_in_use_is_not_deleted_and_its_sessions_are_listed(
    api: ApiClient, policy: TrustPolicy, tokens: TokenPair
) -> None:
    ids = sorted(str(session_with(policy).pk) for _ in range(12))
    response = api.send("delete", at(policy), token=tokens.access)

    assert (response.status_code, error_code(response)) == (409, "4003")
    assert response.json()["error"]["details"]["sessions"] == 12
    named = response.json()["error"]["details"]["session_ids"]
    assert len(named) == 10
    assert set(named) <= set(ids)
    assert known(policy).version == 1


def test_detach_removes_the_policy_from_its_sessions_and_deletes_it(
    api: ApiClient, owner: User, policy: TrustPolicy, tokens: TokenPair
) -> None:
    session, other = session_with(policy), session_with(policy_of(owner, 1))
    assert api.send("delete", f"{at(policy)}?detach=true", token=tokens.access).status_code == 204

    session.refresh_from_db()
    assert (session.trust_policy_id, session.version) == (None, 2)
    other.refresh_from_db()
    assert (other.trust_policy_id is not None, other.version) == (True, 1)
    assert events("deleted") == [(str(owner.pk), str(policy.pk), {"detached_sessions": 1})]


def test_detach_with_a_stale_tag_changes_nothing(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    session = session_with(policy)
    response = api.send(
        "delete", f"{at(policy)}?detach=true", token=tokens.access, headers={"If-Match": '"another"'}
    )  # fmt: skip
    assert response.status_code == 412
    session.refresh_from_db()
    assert session.trust_policy_id == policy.pk


def test_a_half_deleted_session_does_not_keep_its_policy_in_use(policy: TrustPolicy) -> None:
    session = session_with(policy, deleted_at=policy.created_at)
    assert outcome_of_deletion(policy) == ""
    session.refresh_from_db()
    assert session.trust_policy_id is None


@pytest.mark.parametrize("detach", [False, True])
def test_a_policy_assigned_just_before_its_deletion_stays(
    policy: TrustPolicy, monkeypatch: pytest.MonkeyPatch, detach: bool
) -> None:
    detach_sessions = policies.detach_sessions
    monkeypatch.setattr(
        policies, "detach_sessions", lambda *args, **more: (detach_sessions(*args, **more), session_with(policy))
    )  # fmt: skip
    assert outcome_of_deletion(policy, detach=detach) == "PolicyInUse"
    assert known(policy).sessions.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("detach", [False, True])
def test_sessions_never_refer_to_a_policy_deleted_meanwhile(owner: User, policy: TrustPolicy, detach: bool) -> None:
    def act(number: int) -> str:
        return take(owner, policy) if number else outcome_of_deletion(policy, detach=detach)

    in_parallel(6, act)
    there = TrustPolicy.objects.filter(pk=policy.pk).exists()
    assert there or not Session.objects.filter(trust_policy_id=policy.pk).exists()


def take(owner: User, policy: TrustPolicy) -> str:
    """Create a session with the policy as the gateway does, which checks the policy before and afterwards."""
    rows = TrustPolicy.objects.filter(pk=policy.pk)
    if not rows.exists():
        return "unknown"
    try:
        session = Session.objects.create(user=owner, name="a session", trust_policy_id=policy.pk)
    except IntegrityError:  # SQLite checks the foreign key
        return "unknown"
    if not rows.exists():
        Session.objects.filter(pk=session.pk).update(trust_policy=None)
    return "made"
