"""Trust policies and their parts for tests."""

from typing import Any

from accounts.models import User
from lucid_gateway.audit.models import AuditEvent
from sessions_api.models import Session, TrustPolicy

PATH = "/trust/policies"
FIELDS = {"policy_id", "user_id", "name", "description", "rules", "enabled", "created_at", "updated_at"}
RULE = {"rule_id": "adults", "type": "allow", "condition": "user.age >= 18", "action": "session.view"}
WHOLE_RULE = RULE | {"priority": 0, "enabled": True}
POLICY: dict[str, Any] = {"name": "Adults", "rules": [RULE]}


def policy_of(user: User, slot: int = 0, **fields: Any) -> TrustPolicy:
    """Return a new policy of the user."""
    return TrustPolicy.objects.create(user=user, slot=slot, **({"name": "Adults", "rules": [WHOLE_RULE]} | fields))


def session_with(policy: TrustPolicy, **fields: Any) -> Session:
    """Return a new session that refers to the policy."""
    return Session.objects.create(user=policy.user, name="a session", trust_policy=policy, **fields)


def at(policy: TrustPolicy) -> str:
    return f"{PATH}/{policy.pk}"


def problems(response: Any) -> dict[str, str]:
    """Return the error code of each invalid field."""
    return {problem["field"]: problem["code"] for problem in response.json()["error"]["details"]["validation_errors"]}


def events(kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return (actor, subject, details) of the audit events of that kind."""
    return list(AuditEvent.objects.filter(type=f"trust_policy.{kind}").values_list("actor", "subject", "details"))
