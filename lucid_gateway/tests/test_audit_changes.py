"""The old and new values that audit events keep, and what becomes of them."""

import json
from datetime import timedelta
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.factors.recovery import renew_recovery_codes
from accounts.factors.table import leave
from accounts.factors.totp import TOTP
from accounts.lockouts import GuessAttempt, account
from accounts.models import ApiKey, User
from accounts.restoring import confirm_api_keys
from accounts.tests.conftest import Clock, clock, phone_of
from accounts.tokens.signing_keys import bootstrap, rotate
from accounts.users.locks import lock_user, unlock_user
from accounts.users.profile import delete_account
from accounts.users.staff import change_role, edit_account, lift_lockouts, reset_second_factors
from lucid_gateway.audit.events import changed
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from ratelimit.ruling import set_address_rule, set_limit_rule
from sessions_api.lifecycle import change_session, create_session
from sessions_api.policies import change_policy
from sessions_api.tests.trust import policy_of

__all__ = ["clock"]  # a fixture


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


def test_a_lock_keeps_the_old_and_the_new_end_and_reason(owner: User, admin: User) -> None:
    until = timezone.now() + timedelta(days=1)
    lock_user(owner, reason="first", by=admin, until=until)
    lock_user(owner, reason="second", by=admin)
    unlock_user(owner, by=admin)
    unlock_user(owner, by=admin)

    first = json.loads(json.dumps(until, cls=DjangoJSONEncoder))
    assert changes_of("user.locked") == [
        {"locked_until": [None, first], "lock_reason": ["", "first"]},
        {"locked_until": [first, "no end"], "lock_reason": ["first", "second"]},
    ]
    assert changes_of("user.unlocked") == [{"locked_until": ["no end", None], "lock_reason": ["second", ""]}, {}]


def test_second_factors_keep_whether_they_were_on_and_never_a_secret(owner: User, admin: User, clock: Clock) -> None:
    phone = phone_of(owner, clock)
    owner.refresh_from_db()
    renew_recovery_codes(owner)
    leave(TOTP, owner, proof=phone.fresh_code())
    User.objects.filter(pk=owner.pk).update(hardware_wallet_enabled=True, hardware_wallet_address="T123")
    reset_second_factors(User.objects.get(pk=owner.pk), by=admin)

    assert changes_of("totp.enabled") == [{"totp_enabled": [False, True]}]
    assert changes_of("totp.disabled") == [{"totp_enabled": [True, False]}]
    assert changes_of("wallet.reset") == [
        {"hardware_wallet_address": ["T123", ""], "hardware_wallet_enabled": [True, False]}
    ]
    assert "totp_secret" not in repr(list(AuditEvent.objects.values()))


def test_lifted_lockouts_are_named(owner: User, admin: User) -> None:
    for _ in range(10):
        GuessAttempt(account(owner.email))
    lift_lockouts(owner, by=admin)
    lift_lockouts(owner, by=admin)

    assert changes_of("lockout.lifted") == [{"lockouts": [["account"], []]}, {}]


def test_an_api_key_keeps_its_states(owner: User, admin: User) -> None:
    key, _ = create_api_key(owner, name="laptop", permissions=["user:read"])
    ApiKey.objects.filter(pk=key.pk).update(suspended_at=timezone.now())
    confirm_api_keys(ApiKey.objects.all(), by=admin)
    revoke_api_key(owner.pk, key.key_id, by=admin)

    assert changes_of("api_key.created")[0]["name"] == [None, "laptop"]
    assert changes_of("api_key.confirmed") == [{"state": ["suspended", "live"]}]
    assert changes_of("api_key.revoked") == [{"state": ["live", "revoked"]}]


def test_a_session_keeps_its_status(owner: User) -> None:
    for status in ("completed", "failed", "cancelled"):
        session = create_session(owner.pk, name="a session")
        change_session(session, version=None, changes={"status": status})

        assert changes_of(f"session.{status}") == [{"status": ["active", status]}]


def test_signing_keys_keep_their_states_and_why_they_were_retired(db: None) -> None:
    bootstrap()
    rotate("HS256", retire_now=True, why="leaked", wait=lambda _: None)

    assert changes_of("signing_key.retiring") == [{"state": ["active", "retiring"]}]
    assert changes_of("signing_key.active") == [{"state": ["next", "active"]}]
    revoked = [changes["state"] for changes in changes_of("signing_key.revoked")]
    assert sorted(revoked) == [["next", "revoked"], ["retiring", "revoked"]]
    reasons = AuditEvent.objects.filter(type__in=["signing_key.revoked", "token.revoked"]).values_list("details")
    assert [details["why"] for (details,) in reasons] == ["leaked"] * 3
