"""What an operator can do about a request: each button leads to a page that asks, and is for those who may use it."""

from typing import Any

import pytest
from django.test import Client

from accounts.api_keys import create_api_key
from accounts.lockouts import RULES, GuessAttempt, LockoutSubject, active_lockouts, of_address
from accounts.models import ApiKey, User
from accounts.tests.operators import signed_in
from accounts.users.locks import lock_user
from conftest import make_user
from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.explaining import explain
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.tests.stage import kept
from lucid_gateway.operators.buttons import Button
from lucid_gateway.policy.reasons import REASONS
from lucid_gateway.policy.roles import Role
from proxy.clusters import cluster_named
from proxy.models import Maintenance
from proxy.operators.closing import close_cluster
from ratelimit.models import AddressRule, LimitRule
from ratelimit.ruling import set_address_rule, set_limit_rule

ADDRESS = "198.51.100.7"
CLUSTER = "blockchain_core"
LIMITS = {"tier": "authenticated", "limit": 5, "burst": 0, "remaining": 0, "resets_at": 1_800_000_000}


def button(row: KeptRequest, by: User, label: str) -> Button:
    """Return the button whose label begins so."""
    return next(each for each in explain(Case(row, by=by)).buttons if each.label.startswith(label))


def labels(row: KeptRequest, by: User) -> list[str]:
    return [each.label for each in explain(Case(row, by=by)).buttons]


def press(client: Client, button: Button, **more: str) -> Any:
    """Send the button's form, or open its page."""
    if button.fields is None:
        return client.get(button.url)
    return client.post(button.url, {**button.fields, "back": "/admin/requests/request-1/", **more})


def lock_out(subject: LockoutSubject) -> None:
    """Fail until a lockout begins."""
    for _ in range(RULES[subject.kind].free_failures):
        GuessAttempt(subject).fail()


@pytest.mark.parametrize("operator", ["admin", "super_admin"])
def test_each_button_leads_to_a_page_that_asks_or_shows(
    operator: str, request: pytest.FixtureRequest, owner: User
) -> None:
    by: User = request.getfixturevalue(operator)
    client = signed_in(by)
    key, _ = create_api_key(owner, name="indexer-prod", permissions=["user:read"])
    set_address_rule(network="198.51.100.0/24", kind="deny", reason="a flood", expires_at=None, by=owner)
    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", limit=5, by="manage.py")
    instance = cluster_named(CLUSTER).instances[0].url
    close_cluster(cluster=CLUSTER, instance=instance, kind="drain", reason="an update", by=by)
    lock_user(owner, reason="stolen laptop", by="manage.py")
    of_key = {"credential_kind": "api_key", "credential_id": key.key_id}
    facts = {"facts": {"network": "198.51.100.0/24"}, "limits": {**LIMITS, "rule": f"user:{owner.pk}"}}
    found = {
        (each.url, str(each.fields)): each
        for name in REASONS
        for more in ({}, of_key)
        for each in explain(
            Case(
                kept(reason=name, status=400, user_id=str(owner.pk), cluster=CLUSTER, instance=instance,
                     route="api/v1/chain/info", details=facts, **more),
                by=by,
            )
        ).buttons
    }  # fmt: skip

    assert len(found) > 25
    assert sum(each.fields is not None for each in found.values()) > 5
    failed = {each.label: press(client, each).status_code for each in found.values()}
    assert {label: status for label, status in failed.items() if status != 200} == {}


def test_a_locked_user_is_unlocked_from_the_request(admin: User, owner: User) -> None:
    lock_user(owner, reason="stolen laptop", by="manage.py")
    row = kept(reason="account_locked", status=401, user_id=str(owner.pk))
    client = signed_in(admin)

    asked = press(client, button(row, admin, "Unlock the account")).content.decode()
    done = press(client, button(row, admin, "Unlock the account"), _confirmed="yes")

    assert "Unlock users" in asked
    assert done["Location"] == "/admin/requests/request-1/"
    owner.refresh_from_db()
    assert not owner.is_locked
    assert "Unlock the account…" not in labels(row, admin)


def test_what_only_a_super_admin_may_do_names_whom_to_ask(admin: User, super_admin: User, db: None) -> None:
    other = make_user("other-admin", Role.ADMIN)
    lock_user(other, reason="left the company", by=super_admin)
    row = kept(reason="account_locked", status=401, user_id=str(other.pk))

    assert explain(Case(row, by=admin)).asks == ["Only a super admin may unlock the account: ask one."]
    assert "Unlock the account…" not in labels(row, admin)
    assert explain(Case(row, by=super_admin)).asks == []
    assert "Unlock the account…" in labels(row, super_admin)
    assert "Only a super admin may unlock the account" in (
        signed_in(admin).get("/admin/requests/request-1/").content.decode()
    )


def test_only_a_super_admin_changes_a_role(admin: User, super_admin: User, owner: User) -> None:
    row = kept(reason="permission_missing", status=403, user_id=str(owner.pk))

    assert explain(Case(row, by=admin)).asks == ["Only a super admin may change the role: ask one."]
    assert labels(row, super_admin)[0] == "Change the role…"
    assert "Change roles" in press(signed_in(super_admin), button(row, super_admin, "Change the role")).content.decode()


def test_nobody_acts_on_the_own_account(super_admin: User) -> None:
    row = kept(reason="permission_missing", status=403, user_id=str(super_admin.pk))

    assert "Change the role…" not in labels(row, super_admin)
    assert explain(Case(row, by=super_admin)).asks == []


def test_a_key_is_revoked_from_the_request(admin: User, owner: User) -> None:
    key, _ = create_api_key(owner, name="leaked", permissions=[])
    row = kept(reason="quota_exhausted", status=429, credential_kind="api_key", credential_id=key.key_id)

    pressed = button(row, admin, "Revoke the key")
    press(signed_in(admin), pressed, _confirmed="yes")

    assert pressed.danger
    assert ApiKey.objects.get(pk=key.pk).revoked_at is not None
    assert "Revoke the key…" not in labels(row, admin)


def test_the_rule_of_an_address_is_lifted_from_the_request(admin: User) -> None:
    set_address_rule(network="198.51.100.0/24", kind="deny", reason="a flood", expires_at=None, by=admin)
    row = kept(reason="address_denied", status=403, details={"facts": {"network": "198.51.100.0/24"}})

    assert labels(row, admin)[:2] == ["Lift the rule for 198.51.100.0/24…", "Change the rule…"]
    press(signed_in(admin), button(row, admin, "Lift the rule"), _confirmed="yes")

    assert not AddressRule.objects.exists()
    assert labels(row, admin) == ["Requests of this network"]


def test_the_rule_of_a_limit_is_lifted_from_the_request(admin: User, owner: User) -> None:
    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", limit=5, by="manage.py")
    limits = {"limits": {**LIMITS, "rule": f"user:{owner.pk}"}}
    row = kept(reason="tier_exhausted", status=429, user_id=str(owner.pk), details=limits)

    press(signed_in(admin), button(row, admin, "Lift the rule"), _confirmed="yes")

    assert not LimitRule.objects.exists()


def test_lockouts_of_the_user_and_of_the_address_are_lifted_from_the_request(admin: User, owner: User) -> None:
    row = kept(reason="too_many_attempts", status=429, user_id=str(owner.pk), address=ADDRESS)
    assert not any(label.startswith("Lift") for label in labels(row, admin))
    lock_out(LockoutSubject("account", owner.email))
    lock_out(of_address(ADDRESS))

    client = signed_in(admin)
    press(client, button(row, admin, "Lift the lockouts of the user"), _confirmed="yes")
    assert [found.subject.kind for found in active_lockouts()] == ["address"]
    done = press(client, button(row, admin, f"Lift the lockout of {ADDRESS}"))

    assert done["Location"] == "/admin/requests/request-1/"
    assert active_lockouts() == []


@pytest.mark.parametrize("whole", [True, False], ids=["cluster", "instance"])
def test_a_cluster_is_put_back_from_the_request(admin: User, whole: bool) -> None:
    url = cluster_named(CLUSTER).instances[0].url
    close_cluster(cluster=CLUSTER, instance="" if whole else url, kind="drain", reason="an update", by=admin)
    row = kept(reason="cluster_in_maintenance", status=503, cluster=CLUSTER, instance=url)

    press(signed_in(admin), button(row, admin, f"Put {CLUSTER if whole else url} back"), _confirmed="yes")

    assert not Maintenance.objects.in_force().exists()
    assert not any(label.startswith("Put") for label in labels(row, admin))


def test_an_instance_in_service_can_be_taken_out(admin: User) -> None:
    url = cluster_named(CLUSTER).instances[0].url
    row = kept(reason="instance_timeout", status=504, cluster=CLUSTER, instance=url)

    asked = press(signed_in(admin), button(row, admin, "Take this instance out")).content.decode()

    assert url in asked
    assert "For how long" in asked


def test_without_an_operator_nothing_is_offered_that_changes_an_account(owner: User) -> None:
    lock_user(owner, reason="stolen laptop", by="manage.py")

    found = explain(Case(kept(reason="account_locked", status=401, user_id=str(owner.pk))))

    assert [each for each in found.buttons if each.fields] == []
