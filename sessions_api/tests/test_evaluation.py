"""Which rule of a trust policy decides, by action, priority and type. An undecided condition never allows."""

from typing import Any

import pytest

from sessions_api.evaluation import EvaluatedRule, PolicyDecision, decide
from sessions_api.models import TrustPolicy


def rule(rule_id: str, kind: str = "allow", condition: str = "true", **more: Any) -> dict[str, Any]:
    fields = {"rule_id": rule_id, "type": kind, "condition": condition, "action": "*", "priority": 0, "enabled": True}
    return fields | more


def decision(
    *rules: dict[str, Any], action: str = "session.view", enabled: bool = True, **context: Any
) -> PolicyDecision:
    return decide(TrustPolicy(rules=list(rules), enabled=enabled), action=action, context=context)


def who(*rules: dict[str, Any], **more: Any) -> tuple[str, str | None]:
    """Return what was decided, and by which rule."""
    decided = decision(*rules, **more)
    return decided.decision, decided.rule_id


def test_the_matching_rule_decides_and_is_named() -> None:
    assert decision(rule("a", condition="age > 17"), age=18) == PolicyDecision(
        "allow", "a", "The allow rule a matches.", (EvaluatedRule("a", True),)
    )


def test_an_action_that_no_rule_allows_is_denied() -> None:
    assert decision(rule("a", condition="age > 17"), age=17) == PolicyDecision(
        "deny", None, "No rule allows the action.", (EvaluatedRule("a", False),)
    )


def test_a_disabled_policy_denies_without_evaluating_rules() -> None:
    assert decision(rule("a"), enabled=False) == PolicyDecision(
        "deny", None, "The policy is disabled, so it allows nothing."
    )


def test_a_disabled_rule_is_not_evaluated() -> None:
    assert decision(rule("a", enabled=False)).evaluated == ()


def test_a_higher_priority_comes_first_for_both_types() -> None:
    deny, allow = rule("d", "deny", priority=1), rule("a", priority=2)
    assert who(deny, allow) == who(allow, deny) == ("allow", "a")
    assert who(deny | {"priority": 3}, allow) == ("deny", "d")


def test_at_the_same_priority_deny_comes_before_allow() -> None:
    assert who(rule("a"), rule("d", "deny")) == ("deny", "d")


def test_rules_of_equal_rank_keep_their_order() -> None:
    assert who(rule("a"), rule("b")) == ("allow", "a")
    assert who(rule("a", condition="false"), rule("b")) == ("allow", "b")


def test_rules_after_the_deciding_one_are_not_evaluated() -> None:
    asked = decision(rule("a", condition="false"), rule("b"), rule("c")).evaluated
    assert [each.rule_id for each in asked] == ["a", "b"]


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("session.view", ["session.view"]),
        ("*", ["session", "session.view", "session.view.now", "sessions.view", "view"]),
        ("session.*", ["session.view", "session.view.now"]),
        ("session.view.*", ["session.view.now"]),
        ("view", ["view"]),
    ],
)
def test_an_action_pattern_covers_itself_and_with_a_star_all_below(pattern: str, covered: list[str]) -> None:
    actions = ["session", "session.view", "session.view.now", "sessions.view", "view"]
    assert [action for action in actions if who(rule("a", action=pattern), action=action)[1]] == covered


def test_an_undecided_deny_rule_denies() -> None:
    decided = decision(rule("d", "deny", "age < 18"), rule("a"))
    assert (decided.decision, decided.rule_id) == ("deny", "d")
    assert decided.reason == "The deny rule d denies because its condition cannot be decided: age is missing."
    assert decided.evaluated == (EvaluatedRule("d", False, "age is missing"),)


def test_an_undecided_allow_rule_allows_nothing_and_reports_its_error() -> None:
    decided = decision(rule("a", condition="age > 17"), age="18")
    assert (decided.decision, decided.rule_id) == ("deny", None)
    assert decided.evaluated == (EvaluatedRule("a", False, "cannot compare string > number"),)


def test_another_rule_may_allow_after_an_undecided_allow_rule() -> None:
    assert who(rule("a", condition="age > 17"), rule("b")) == ("allow", "b")


@pytest.mark.parametrize(("kind", "rule_id"), [("deny", "x"), ("allow", None)])
def test_a_stored_condition_that_became_invalid_never_allows(kind: str, rule_id: str | None) -> None:
    decided = decision(rule("x", kind, "age >"), age=18)
    assert (decided.decision, decided.rule_id) == ("deny", rule_id)
    assert decided.evaluated == (EvaluatedRule("x", False, "unexpected end of the condition"),)
