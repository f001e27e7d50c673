"""POST /trust/policies/{policy_id}/evaluate: the decision of a policy, its rule and its reason."""

import json
from typing import Any

import pytest

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.policy.roles import Role
from sessions_api.models import TrustPolicy
from sessions_api.tests.trust import PATH, at, policy_of, problems

QUESTION = {"action": "session.view", "context": {"user": {"age": 18}}}


@pytest.fixture
def policy(owner: User) -> TrustPolicy:
    """A policy of the owner that allows adults to view."""
    return policy_of(owner)


def ask(api: ApiClient, policy: TrustPolicy, token: str, question: Any = QUESTION) -> Any:
    return api.send("post", f"{at(policy)}/evaluate", question, token=token)


@pytest.mark.parametrize("path", [PATH, "/trust-policies"])
def test_the_answer_names_the_rule_and_the_reason(
    api: ApiClient, policy: TrustPolicy, tokens: TokenPair, path: str
) -> None:
    response = api.send("post", f"{path}/{policy.pk}/evaluate", QUESTION, token=tokens.access)
    assert (response.status_code, response.json()) == (200, {
        "decision": "allow", "rule_id": "adults", "reason": "The allow rule adults matches.",
        "evaluated": [{"rule_id": "adults", "matched": True, "error": None}],
    })  # fmt: skip


def test_an_action_is_denied_if_no_rule_matches(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    body = ask(api, policy, tokens.access, {"action": "session.delete", "context": {}}).json()
    assert body == {"decision": "deny", "rule_id": None, "reason": "No rule allows the action.", "evaluated": []}


def test_the_answer_reports_undecided_conditions(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    body = ask(api, policy, tokens.access, {"action": "session.view"}).json()
    assert (body["decision"], body["evaluated"]) == (
        "deny", [{"rule_id": "adults", "matched": False, "error": "user is missing"}],
    )  # fmt: skip


def test_evaluation_changes_nothing(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    ask(api, policy, tokens.access)
    assert TrustPolicy.objects.get().version == 1


def test_staff_may_evaluate_any_policy_but_other_users_may_not(
    api: ApiClient, policy: TrustPolicy, node_operator: User
) -> None:
    assert ask(api, policy, issue_tokens(make_user("admin", Role.ADMIN)).access).status_code == 200
    assert error_code(ask(api, policy, issue_tokens(node_operator).access)) == "4001"


MISFITS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"context": {}}, {"action": "required"}),
    ({"action": "*"}, {"action": "invalid"}),
    ({"action": "session.*"}, {"action": "invalid"}),
    ({"action": "a" * 101}, {"action": "max_length"}),
    ({"action": "a", "context": [1]}, {"context": "not_a_dict"}),
    ({"action": "a", "context": {"a": "é" * 8200}}, {"context": "max_length"}),
]


def test_an_invalid_question_is_refused(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    found = [problems(ask(api, policy, tokens.access, question)) for question, _ in MISFITS]
    assert found == [wrong for _, wrong in MISFITS]


def test_a_context_has_at_most_sixteen_kibibytes(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    room = 16 * 1024 - len('{"a":""}')
    questions = [{"action": "a", "context": {"a": "x" * size}} for size in (room, room + 1)]
    assert [ask(api, policy, tokens.access, question).status_code for question in questions] == [200, 422]


def test_a_context_nested_too_deep_is_refused(api: ApiClient, policy: TrustPolicy, tokens: TokenPair) -> None:
    deep = json.loads('{"a":' * 40 + "1" + "}" * 40)
    assert error_code(ask(api, policy, tokens.access, {"action": "a", "context": deep})) == "1009"
