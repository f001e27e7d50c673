"""What a trust policy says to an action: the rules are asked in order, the first that matches decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sessions_api.comparisons import Undecided
from sessions_api.conditions import ConditionError, parse
from sessions_api.models import TrustPolicy
from sessions_api.turns import give_way

ALLOW, DENY = "allow", "deny"


@dataclass(frozen=True)
class AskedRule:
    """A rule that was asked: whether it matched, or why that cannot be said."""

    rule_id: str
    matched: bool
    error: str | None = None


@dataclass(frozen=True)
class PolicyDecision:
    """`allow` or `deny`, the rule that decided, None if none did, why, and which rules were asked, in order."""

    decision: str
    rule_id: str | None
    reason: str
    evaluated: tuple[AskedRule, ...] = ()


def decide(policy: TrustPolicy, *, action: str, context: Mapping[str, Any]) -> PolicyDecision:
    """Return what the policy says to the action in the context (a JSON object). What is not allowed is denied."""
    if not policy.enabled:
        return PolicyDecision(DENY, None, "The policy is disabled: it allows nothing.")
    asked: list[AskedRule] = []
    for rule in in_order(policy.rules, action):
        asked.append(ask(rule, context))
        give_way()
        if reason := deciding(rule, asked[-1]):
            return PolicyDecision(rule["type"], rule["rule_id"], reason, tuple(asked))
    return PolicyDecision(DENY, None, "No rule allows it.", tuple(asked))


def in_order(rules: list[dict[str, Any]], action: str) -> list[dict[str, Any]]:
    """Return the enabled rules that are about the action: higher priority first, then deny before allow."""
    about = [rule for rule in rules if rule["enabled"] and covers(rule["action"], action)]
    return by_rank(about)


def by_rank(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules in the order in which they are asked."""
    return sorted(rules, key=lambda rule: (-rule["priority"], rule["type"] != DENY))


def covers(pattern: str, action: str) -> bool:
    """Return whether a rule's action is or includes the action: `*` is all, `session.*` all below `session`."""
    return pattern in ("*", action) or (pattern.endswith(".*") and action.startswith(pattern[:-1]))


def ask(rule: Mapping[str, Any], context: Mapping[str, Any]) -> AskedRule:
    """Return what a rule's condition says in the context."""
    try:
        return AskedRule(rule["rule_id"], parse(rule["condition"]).evaluate(context))
    except (Undecided, ConditionError) as error:
        return AskedRule(rule["rule_id"], False, str(error))


def deciding(rule: Mapping[str, Any], asked: AskedRule) -> str:
    """Return why the rule decides, an empty text if it does not: what cannot be decided never allows."""
    if asked.matched:
        return f"The {rule['type']} rule {asked.rule_id} matches."
    if asked.error is not None and rule["type"] == DENY:
        return f"The deny rule {asked.rule_id} cannot be decided, and so denies: {asked.error}."
    return ""
