"""The old and new values that audit events keep, and what becomes of them."""

from typing import Any

from accounts.models import User
from accounts.users.profile import delete_account
from accounts.users.staff import change_role, edit_account
from lucid_gateway.audit.events import changed
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from ratelimit.ruling import set_address_rule, set_limit_rule
from sessions_api.policies import change_policy
from sessions_api.tests.trust import policy_of


def changes_of(kind: str) -> list[dict[str, Any]]:
    """Return the changes of each event of the kind, the oldest first."""
    events = AuditEvent.objects.filter(type=kind).order_by("created_at")
    return [details.get("changes", {}) for details in events.values_list("details", flat=True)]


def test_only_values_that_differ_are_changes() -> None:
    assert changed({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": None}) == {"b": [2, 5]}


def test_a_long_value_is_stored_as_its_beginning() -> None:
    [_, after] = changed({"rules": []}, {"rules": ["x" * 2000]})["rules"]

    assert after.startswith('["xxx')
    assert len(after) == 501


def test_a_new_email_by_staff_keeps_the_old_one(owner: User, admin: User, db: None) -> None:
    before = owner.email
    owner.email = "new@example.org"
    edit_account(owner, by=admin, before={"email": before})

    assert changes_of("user.updated") == [{"email": [before, "new@example.org"]}]


def test_the_second_rule_of_a_network_keeps_the_values_of_the_first(db: None) -> None:
    set_address_rule(network="192.0.2.0/24", kind="deny", reason="scans", by="operator")
    set_address_rule(network="192.0.2.0/24", kind="allow", reason="a partner", by="operator")

    assert changes_of("address.ruled")[1] == {"kind": ["deny", "allow"], "reason": ["scans", "a partner"]}


def test_a_second_limit_keeps_the_numbers_of_the_first(db: None) -> None:
    set_limit_rule(tier="authenticated", subject="", by="operator", limit=50, burst=9)
    set_limit_rule(tier="authenticated", subject="", by="operator", limit=70)

    assert changes_of("limit.set")[1] == {"limit": [50, 70], "burst": [9, None]}


def test_old_and_new_values_vanish_with_the_account(owner: User, admin: User) -> None:
    policy = policy_of(owner)
    change_policy(policy, version=None, name="the name of a friend")
    before = owner.first_name
    owner.first_name = "Ottilie"
    edit_account(owner, by=admin, before={"first_name": before})
    delete_account(User.objects.get(pk=owner.pk))

    kept = repr(list(AuditEvent.objects.values()))
    assert "Ottilie" not in kept
    assert "friend" not in kept
    assert AuditEvent.objects.filter(type__in=["user.updated", "trust_policy.changed"]).count() == 2


def test_a_new_role_is_recorded_as_a_change(super_admin: User, owner: User) -> None:
    change_role(owner, Role.NODE_OPERATOR, by=super_admin)

    assert changes_of("user.role_changed") == [{"role": ["user", "node_operator"]}]
