"""Serializers of trust policies."""

import json
from collections import Counter
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from lucid_gateway.api.pagination import ONE_ROW, ListQuery, PaginationSerializer
from sessions_api import conditions
from sessions_api.evaluation import EvaluatedRule, PolicyDecision
from sessions_api.models import TrustPolicy
from sessions_api.serializers.fields import Id

MAX_RULES = 100
MAX_PRIORITY = 10_000
MAX_CONDITIONS_LENGTH = 16_384
MAX_CONTEXT_BYTES = 16 * 1024
ACTION = r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
IN_OFFICE_HOURS = {
    "rule_id": "office-hours",
    "type": "allow",
    "condition": 'user.role in ["auditor", "owner"] && time.hour >= 8 && time.hour < 18',
    "action": "session.*",
    "priority": 100,
    "enabled": True,
}
NOT_FROM_ABROAD = {
    "rule_id": "not-from-abroad",
    "type": "deny",
    "condition": 'client.country != "CH"',
    "action": "*",
    "priority": 200,
    "enabled": True,
}
EXAMPLE = {
    "name": "Auditors",
    "description": "Auditors may view sessions during office hours from Switzerland.",
    "rules": [IN_OFFICE_HOURS, NOT_FROM_ABROAD],
    "enabled": True,
}
SHOWN = EXAMPLE | {
    "policy_id": "5c1f0f0e-7f6b-4b5e-9c7a-2b8f0a3d1e42",
    "user_id": "b6d2a9f0-6a4e-4b62-8a56-0e6f2a5c9d27",
    "created_at": "2026-11-25T08:00:00Z",
    "updated_at": "2026-11-25T08:00:00Z",
}


class ConditionField(serializers.CharField):
    """A condition. Errors name a position; spaces are not trimmed, so that it fits the client's text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=conditions.MAX_LENGTH, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        text: str = super().to_internal_value(data)
        if len(text) <= conditions.MAX_LENGTH:  # else the validators refuse it
            try:
                conditions.parse(text)
            except conditions.ConditionError as error:
                raise serializers.ValidationError(with_position(text, error), code="invalid") from error
        return text


def with_position(text: str, error: conditions.ConditionError) -> str:
    """Return the error message with its offset in characters, from 0, and its line and column, from 1."""
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return f"At character {error.position} (line {line}, column {column}): {error.message}."


class RuleSerializer(serializers.Serializer[None]):
    """A rule that allows or denies its action where its condition holds."""

    rule_id = serializers.RegexField(r"\A[A-Za-z0-9_-]{1,64}\Z", help_text="Unique in the policy")
    type = serializers.ChoiceField(["allow", "deny"])
    condition = ConditionField(help_text="See docs/trust-policies.md")
    action = serializers.RegexField(
        rf"\A(?:\*|{ACTION}(?:\.\*)?)\Z", max_length=100, help_text="Such as session.view; session.* and * match more"
    )
    priority = serializers.IntegerField(min_value=0, max_value=MAX_PRIORITY, default=0, help_text="Higher ones first")
    enabled = serializers.BooleanField(default=True)


class RuleList(serializers.ListSerializer):  # type: ignore[type-arg]  # not subscriptable at run time
    """The rules of a policy. The total length of their conditions is checked before any of them is parsed."""

    def to_internal_value(self, data: Any) -> list[dict[str, Any]]:
        rules = [rule for rule in data if isinstance(rule, dict)] if isinstance(data, list) else []
        if sum(len(str(rule.get("condition", ""))) for rule in rules) > MAX_CONDITIONS_LENGTH:
            text = f"The conditions together exceed {MAX_CONDITIONS_LENGTH} characters."
            raise serializers.ValidationError(text, code="max_length")
        found: list[dict[str, Any]] = super().to_internal_value(data)
        return found


def check_rules(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rules; raise ValidationError if two have the same id."""
    counts = Counter(rule["rule_id"] for rule in rules)
    taken = [serializers.ErrorDetail("Another rule of the policy has the same id.", code="unique")]
    twice = {str(index): {"rule_id": taken} for index, rule in enumerate(rules) if counts[rule["rule_id"]] > 1}
    if twice:
        raise serializers.ValidationError(twice)
    return rules


@extend_schema_serializer(examples=[OpenApiExample("A policy", value=EXAMPLE, request_only=True)])
class NewPolicySerializer(serializers.Serializer[None]):
    """POST /trust/policies and PUT /trust/policies/{policy_id}."""

    name = serializers.CharField(max_length=255)
    description = serializers.CharField(max_length=1000, allow_blank=True, default="")
    rules = RuleList(child=RuleSerializer(), min_length=1, max_length=MAX_RULES, help_text=f"1 to {MAX_RULES} rules")
    enabled = serializers.BooleanField(default=True)

    def validate_rules(self, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return check_rules(rules)


@extend_schema_serializer(examples=[OpenApiExample("Switched off", value={"enabled": False}, request_only=True)])
class PolicyChangesSerializer(serializers.Serializer[None]):
    """PATCH /trust/policies/{policy_id}: omitted fields stay; the list of rules is replaced as a whole."""

    name = serializers.CharField(max_length=255, required=False)
    description = serializers.CharField(max_length=1000, allow_blank=True, required=False)
    rules = RuleList(
        child=RuleSerializer(), min_length=1, max_length=MAX_RULES, required=False, help_text=f"1 to {MAX_RULES} rules"
    )
    enabled = serializers.BooleanField(required=False)

    def validate_rules(self, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return check_rules(rules)


@extend_schema_serializer(examples=[OpenApiExample("A policy", SHOWN, response_only=True)])
class PolicySerializer(serializers.ModelSerializer[TrustPolicy]):
    """A trust policy."""

    user_id = serializers.UUIDField(read_only=True)
    rules = RuleSerializer(many=True)

    class Meta:
        model = TrustPolicy
        fields = ("policy_id", "user_id", "name", "description", "rules", "enabled", "created_at", "updated_at")
        read_only_fields = fields


class PoliciesQuery(ListQuery):
    """The query of GET /trust/policies."""

    sortable = ("created_at", "updated_at", "name")
    default_sort = "-created_at"

    enabled = serializers.BooleanField(required=False, allow_null=True, default=None)
    name = serializers.CharField(max_length=255, required=False, help_text="Part of the name")
    user_id = Id(required=False, help_text="The owner of the policies; only staff may name another user")


@extend_schema_serializer(
    examples=[OpenApiExample("One policy", {"policies": [SHOWN], "pagination": ONE_ROW}, response_only=True)]
)
class PoliciesPageSerializer(serializers.Serializer[None]):
    """The answer to GET /trust/policies."""

    policies = PolicySerializer(many=True)
    pagination = PaginationSerializer()


class DeletionQuery(serializers.Serializer[None]):
    """The query of DELETE /trust/policies/{policy_id}."""

    detach = serializers.BooleanField(default=False, help_text="Remove the policy from the sessions that refer to it")


QUESTION = {
    "action": "session.view",
    "context": {"user": {"role": "auditor"}, "time": {"hour": 9}, "client": {"country": "CH"}},
}
ANSWER = {
    "decision": "allow",
    "rule_id": "office-hours",
    "reason": "The allow rule office-hours matches.",
    "evaluated": [
        {"rule_id": "not-from-abroad", "matched": False, "error": None},
        {"rule_id": "office-hours", "matched": True, "error": None},
    ],
}


@extend_schema_serializer(examples=[OpenApiExample("May an auditor view it?", value=QUESTION, request_only=True)])
class QuestionSerializer(serializers.Serializer[None]):
    """POST /trust/policies/{policy_id}/evaluate."""

    action = serializers.RegexField(rf"\A{ACTION}\Z", max_length=100)
    context: Any = serializers.DictField(default=dict, help_text="The data that conditions test: up to 16 KiB of JSON")

    def validate_context(self, context: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(context, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_CONTEXT_BYTES:
            raise serializers.ValidationError(f"Must have at most {MAX_CONTEXT_BYTES} bytes.", code="max_length")
        return context


class EvaluatedRuleSerializer(serializers.Serializer[EvaluatedRule]):
    """A rule that was evaluated."""

    rule_id = serializers.CharField()
    matched = serializers.BooleanField()
    error = serializers.CharField(allow_null=True, help_text="Why the condition could not be decided")


@extend_schema_serializer(examples=[OpenApiExample("Allowed", ANSWER, response_only=True)])
class DecisionSerializer(serializers.Serializer[PolicyDecision]):
    """Whether a policy allows an action."""

    decision = serializers.ChoiceField(["allow", "deny"])
    rule_id = serializers.CharField(allow_null=True, help_text="The rule that decided")
    reason = serializers.CharField()
    evaluated = EvaluatedRuleSerializer(many=True, help_text="The rules that were evaluated, in order")
