"""GET and POST /trust/policies: listing and creating the caller's policies, at most fifty."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.policy.roles import Role
from sessions_api.models import TrustPolicy
from sessions_api.policies import TooManyPolicies, create_policy
from sessions_api.tests.trust import FIELDS, PATH, POLICY, RULE, WHOLE_RULE, events, policy_of, problems
from testing.parallel import in_parallel


def names(response: Any) -> list[str]:
    return [policy["name"] for policy in response.json()["policies"]]


def refused(api: ApiClient, tokens: TokenPair, **fields: Any) -> tuple[str, dict[str, str]]:
    """Create an invalid policy; return the error's code and that of each field."""
    response = api.send("post", PATH, POLICY | fields, token=tokens.access)
    assert TrustPolicy.objects.count() == 0
    return error_code(response), problems(response)


# Making


@pytest.mark.parametrize("path", [PATH, "/trust-policies"])
def test_a_policy_is_created_and_shown(api: ApiClient, owner: User, tokens: TokenPair, path: str) -> None:
    response = api.send("post", path, POLICY, token=tokens.access)

    body = response.json()
    assert response.status_code == 201
    assert set(body) == FIELDS
    assert (body["user_id"], body["name"], body["description"], body["enabled"]) == (str(owner.pk), "Adults", "", True)
    assert body["rules"] == [WHOLE_RULE]
    assert response["Location"] == f"/api/v1/trust/policies/{body['policy_id']}"
    assert api.send("get", response["Location"].removeprefix("/api/v1"), token=tokens.access).json() == body


def test_a_new_policy_is_in_the_audit_log(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    made = api.send("post", PATH, POLICY, token=tokens.access).json()
    assert events("created") == [(str(owner.pk), made["policy_id"], {"rules": 1})]


def test_all_given_fields_are_stored_unchanged(api: ApiClient, tokens: TokenPair) -> None:
    rules: list[dict[str, Any]] = [
        {"rule_id": "A_b-9", "type": "deny", "condition": ' x == "$y"\n', "action": "*", "priority": 10_000,
         "enabled": False},
        {"rule_id": "z", "type": "allow", "condition": "true", "action": "a.b_c.*", "priority": 1, "enabled": True},
    ]  # fmt: skip
    policy = {"name": "$name", "description": "$$ROOT é\n", "rules": rules, "enabled": False}
    body = api.send("post", PATH, policy, token=tokens.access).json()
    assert {name: body[name] for name in policy} == policy | {"description": "$$ROOT é"}


MISFITS: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"name": ""}, "1002", {"name": "blank"}),
    ({"name": "a" * 256}, "1004", {"name": "max_length"}),
    ({"description": "a" * 1001}, "1004", {"description": "max_length"}),
    ({"enabled": "perhaps"}, "1003", {"enabled": "invalid"}),
    ({"rules": None}, "1002", {"rules": "null"}),
    ({"rules": []}, "1004", {"rules": "min_length"}),
    ({"rules": RULE}, "1003", {"rules": "not_a_list"}),
    ({"rules": [RULE, "true"]}, "1003", {"rules.1": "invalid"}),
    ({"rules": [RULE | {"rule_id": str(n)} for n in range(101)]}, "1004", {"rules": "max_length"}),
]


def test_invalid_policies_are_refused(api: ApiClient, tokens: TokenPair) -> None:
    found = [refused(api, tokens, **fields) for fields, _, _ in MISFITS]
    assert found == [(code, wrong) for _, code, wrong in MISFITS]


BAD = [
    *[("rule_id", bad, "invalid") for bad in ("a b", "é", "a" * 65)], ("rule_id", "", "blank"),
    ("type", "perhaps", "invalid_choice"), ("type", None, "null"),
    *[("action", bad, "invalid") for bad in ("Session", "a..b", ".a", "a.", "a*", "*.a", "a.*.b", "**", "a b")],
    ("action", "a" * 101, "max_length"), ("action", "", "blank"),
    ("priority", -1, "min_value"), ("priority", 10_001, "max_value"), ("priority", 1.5, "invalid"),
    ("enabled", "perhaps", "invalid"),
    ("condition", "", "blank"), ("condition", "a ||", "invalid"), ("condition", "a" * 1001, "max_length"),
    ("condition", "  ", "invalid"), ("condition", ["true"], "invalid"),
]  # fmt: skip


def test_the_error_names_each_invalid_rule_and_field(api: ApiClient, tokens: TokenPair) -> None:
    rules = [RULE] + [RULE | {"rule_id": str(n), field: value} for n, (field, value, _) in enumerate(BAD)]
    expected = {f"rules.{n}.{field}": problem for n, (field, _, problem) in enumerate(BAD, 1)}
    assert refused(api, tokens, rules=rules) == ("1001", expected)


def test_a_rule_has_four_required_fields(api: ApiClient, tokens: TokenPair) -> None:
    needed = ["rule_id", "type", "condition", "action"]
    rules = [{name: value for name, value in RULE.items() if name != field} for field in needed]
    expected = {f"rules.{n}.{field}": "required" for n, field in enumerate(needed)}
    assert refused(api, tokens, rules=rules) == ("1002", expected)


def test_the_error_has_the_position_in_the_condition(api: ApiClient, tokens: TokenPair) -> None:
    rules = [RULE, RULE | {"rule_id": "b", "condition": "  user.age >= 18\n  && || on"}]
    response = api.send("post", PATH, {"name": "Adults", "rules": rules}, token=tokens.access)
    (problem,) = response.json()["error"]["details"]["validation_errors"]
    assert problem == {
        "field": "rules.1.condition", "message": "At character 22 (line 2, column 6): unexpected '||'.",
        "code": "invalid",
    }  # fmt: skip


def test_rule_ids_are_unique_in_a_policy(api: ApiClient, tokens: TokenPair) -> None:
    wrong = refused(api, tokens, rules=[RULE, RULE | {"rule_id": "b"}, RULE])[1]
    assert wrong == {"rules.0.rule_id": "unique", "rules.2.rule_id": "unique"}


def test_the_total_length_of_the_conditions_is_limited(api: ApiClient, tokens: TokenPair) -> None:
    rules = [RULE | {"rule_id": str(n), "condition": "a" * 964} for n in range(17)]
    assert refused(api, tokens, rules=rules)[1] == {"rules": "max_length"}
    wrong = [rule | {"condition": "a " * 500} for rule in rules]
    assert refused(api, tokens, rules=wrong)[1] == {"rules": "max_length"}
    assert api.send("post", PATH, POLICY | {"rules": rules[:16]}, token=tokens.access).status_code == 201


# Fifty


def test_a_user_has_at_most_fifty_policies(api: ApiClient, owner: User, node_operator: User, tokens: TokenPair) -> None:
    for slot in range(50):
        policy_of(owner, slot)
    response = api.send("post", PATH, POLICY, token=tokens.access)

    assert (response.status_code, error_code(response)) == (409, "4003")
    assert response.json()["error"]["details"] == {"limit": 50}
    assert api.send("post", PATH, POLICY, token=issue_tokens(node_operator).access).status_code == 201


def test_a_deletion_frees_its_slot(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    gone = [policy_of(owner, slot) for slot in range(50)][17]
    assert api.send("delete", f"{PATH}/{gone.pk}", token=tokens.access).status_code == 204
    assert api.send("post", PATH, POLICY, token=tokens.access).status_code == 201
    assert api.send("post", PATH, POLICY, token=tokens.access).status_code == 409


@pytest.mark.django_db(transaction=True)
def test_parallel_creations_make_exactly_fifty_policies(owner: User) -> None:
    for slot in range(42):
        policy_of(owner, slot)

    def make(_: int) -> bool:
        try:
            return bool(create_policy(owner.pk, **POLICY))
        except TooManyPolicies:
            return False

    assert sorted(in_parallel(16, make)) == [False] * 8 + [True] * 8
    assert TrustPolicy.objects.count() == 50


# Listing


def test_without_policies_the_list_is_empty(api: ApiClient, tokens: TokenPair) -> None:
    assert api.send("get", PATH, token=tokens.access).json() == {
        "policies": [], "pagination": {"page": 1, "limit": 20, "total": 0, "pages": 0},
    }  # fmt: skip


@pytest.mark.parametrize("path", [PATH, "/trust-policies"])
def test_the_list_has_only_the_callers_policies(
    api: ApiClient, owner: User, node_operator: User, tokens: TokenPair, path: str
) -> None:
    policy_of(node_operator)
    mine = policy_of(owner)
    body = api.send("get", path, token=tokens.access).json()
    assert [policy["policy_id"] for policy in body["policies"]] == [str(mine.pk)]
    assert set(body["policies"][0]) == FIELDS


@pytest.fixture
def three(owner: User) -> None:
    """Three policies whose names, creation times and change times are in three different orders."""
    now = timezone.now()
    for slot, (name, created, updated) in enumerate([("b", 3, 2), ("a", 2, 1), ("C x.y", 1, 3)]):
        times = {"created_at": now - timedelta(days=created), "updated_at": now - timedelta(hours=updated)}
        policy_of(owner, slot, name=name, enabled=name != "a", **times)


LISTS = {
    "": ["C x.y", "a", "b"], "sort=created_at": ["b", "a", "C x.y"], "sort=-updated_at": ["a", "b", "C x.y"],
    "sort=updated_at": ["C x.y", "b", "a"], "sort=name": ["C x.y", "a", "b"], "enabled=true": ["C x.y", "b"],
    "enabled=false": ["a"], "name=c": ["C x.y"], "name=x.y": ["C x.y"], "name=x-y": [], "name=.": ["C x.y"],
    "limit=2": ["C x.y", "a"], "limit=2&page=2": ["b"],
}  # fmt: skip


def test_the_list_is_sorted_filtered_and_paged(api: ApiClient, three: None, tokens: TokenPair) -> None:
    found = {query: names(api.send("get", f"{PATH}?{query}", token=tokens.access)) for query in LISTS}
    assert found == LISTS


def test_an_invalid_query_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    for query in ("sort=slot", "enabled=perhaps", "limit=101", "page=0", "user_id=me"):
        response = api.send("get", f"{PATH}?{query}", token=tokens.access)
        assert (response.status_code, set(problems(response))) == (422, {query.partition("=")[0]})
    assert error_code(response) == "1005"  # of the last one, which asks for a UUID


def test_staff_may_list_a_users_policies(api: ApiClient, owner: User) -> None:
    policy_of(owner)
    token = issue_tokens(make_user("admin", Role.ADMIN)).access
    assert names(api.send("get", PATH, token=token)) == []
    assert names(api.send("get", f"{PATH}?user_id={owner.pk}", token=token)) == ["Adults"]


def test_other_users_may_list_only_their_own_policies(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    assert api.send("get", f"{PATH}?user_id={owner.pk}", token=tokens.access).status_code == 200
    response = api.send("get", f"{PATH}?user_id={uuid.uuid4()}", token=tokens.access)
    assert (response.status_code, error_code(response)) == (403, "2004")


def test_a_staff_api_key_without_admin_read_reads_no_other_users_policies(api: ApiClient, owner: User) -> None:
    admin = make_user("admin", Role.ADMIN)
    key = create_api_key(admin, name="key", permissions=["session:read"])[1]
    policy = policy_of(owner)
    headers = {"X-API-Key": key}
    assert api.send("get", f"{PATH}?user_id={owner.pk}", headers=headers).status_code == 403
    assert api.send("get", f"{PATH}/{policy.pk}", headers=headers).status_code == 404
