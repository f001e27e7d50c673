"""Evaluating trust policies: the rules are tried in order, and the first one that matches decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sessions_api.comparisons import Undecided
from sessions_api.conditions import ConditionError, parse
from sessions_api.cooperation import let_others_run
from sessions_api.models import TrustPolicy

ALLOW, DENY = "allow", "deny"


@dataclass(frozen=True)
class EvaluatedRule:
    """Whether a rule matched, or the error for which its condition could not be decided."""

    rule_id: str
    matched: bool
    error: str | None = None


@dataclass(frozen=True)
class PolicyDecision:
    """`allow` or `deny`, the id of the deciding rule (or None), the reason, and the evaluated rules in order."""

    decision: str
    rule_id: str | None
    reason: str
    evaluated: tuple[EvaluatedRule, ...] = ()


def decide(policy: TrustPolicy, *, action: str, context: Mapping[str, Any]) -> PolicyDecision:
    """Return the policy's decision on the action in the context, a JSON object. Without a matching rule it is deny."""
    if not policy.enabled:
        return PolicyDecision(DENY, None, "The policy is disabled, so it allows nothing.")
    evaluated_rules: list[EvaluatedRule] = []
    for rule in rules_for(policy.rules, action):
        evaluated_rules.append(evaluate_rule(rule, context))
        let_others_run()
        if reason := deciding_reason(rule, evaluated_rules[-1]):
            return PolicyDecision(rule["type"], rule["rule_id"], reason, tuple(evaluated_rules))
    return PolicyDecision(DENY, None, "No rule allows the action.", tuple(evaluated_rules))


def rules_for(rules: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    """Return the enabled rules that cover the action, in order of evaluation."""
    return by_priority([rule for rule in rules if rule["enabled"] and covers(rule["action"], action)])


def by_priority(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules in order of evaluation: higher priority first, then deny before allow."""
    return sorted(rules, key=lambda rule: (-rule["priority"], rule["type"] != DENY))


def covers(pattern: str, action: str) -> bool:
    """Return whether a rule's pattern matches the action: `*` matches all, `session.*` all below `session`."""
    return pattern in ("*", action) or (pattern.endswith(".*") and action.startswith(pattern[:-1]))


def evaluate_rule(rule: Mapping[str, Any], context: Mapping[str, Any]) -> EvaluatedRule:
    try:
        return EvaluatedRule(rule["rule_id"], parse(rule["condition"]).evaluate(context))
    except (Undecided, ConditionError) as error:
        return EvaluatedRule(rule["rule_id"], False, str(error))


def deciding_reason(rule: Mapping[str, Any], result: EvaluatedRule) -> str:
    """Return why the rule decides, an empty string if it does not. An undecided deny rule denies: failing is safe."""
    if result.matched:
        return f"The {rule['type']} rule {result.rule_id} matches."
    if result.error is not None and rule["type"] == DENY:
        return f"The deny rule {result.rule_id} denies because its condition cannot be decided: {result.error}."
    return ""
