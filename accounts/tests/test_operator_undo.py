"""Undoing what was done to the locks of accounts."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import actors_of, choose, me, messages_of, signed_in
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import FOREVER, lock_of, lock_user, unlock_user
from conftest import ApiClient
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.operators import undo
from lucid_gateway.policy.roles import Role

UNDONE = "1 user: undone. Sessions that had ended stay ended."


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin."""
    return signed_in(admin)


def act(client: Client, action: str, *users: User) -> str:
    """Lock or unlock the users; return the key of the message's button."""
    response = choose(client, action, *users, _confirmed="yes", reason="why")
    (message,) = response.context["messages"]
    key = undo.key_of(message)
    assert f'name="undo" value="{key}"' in response.content.decode()
    return key


def press(client: Client, key: str) -> list[str]:
    response: Any = client.post("/admin/undo/", {"undo": key, "back": "/admin/accounts/user/"}, follow=True)
    return messages_of(response)


def test_a_lock_is_undone(page: Client, owner: User, admin: User, tokens: TokenPair, api: ApiClient) -> None:
    key = act(page, "lock", owner)
    assert me(api, tokens) != "in"

    assert press(page, key) == [UNDONE]
    owner.refresh_from_db()
    assert (owner.is_locked, owner.lock_reason, owner.locked_by) == (False, "", "")
    assert me(api, issue_tokens(owner)) == "in"
    assert me(api, tokens) != "in"
    assert actors_of("user.unlocked") == [(str(admin.pk), str(owner.pk))]
    details = AuditEvent.objects.get(type="user.unlocked").details
    assert details.pop("changes") == {"locked_until": ["no end", None], "lock_reason": ["why", ""]}
    assert details == {"undone": True}


def test_undoing_a_lock_restores_the_lock_that_it_replaced(page: Client, owner: User, super_admin: User) -> None:
    until = timezone.now() + timedelta(hours=1)
    lock_user(owner, reason="first", by=super_admin, until=until)
    before = lock_of(owner)
    key = act(page, "lock", owner)
    assert lock_of(owner) != before

    assert press(page, key) == [UNDONE]
    assert lock_of(owner) == before
    assert before["lock_reason"] == "first"


def test_undoing_an_unlock_locks_the_account_again(
    page: Client, owner: User, super_admin: User, admin: User, api: ApiClient
) -> None:
    lock_user(owner, reason="first", by=super_admin)
    key = act(page, "unlock", owner)
    meanwhile = issue_tokens(owner)
    assert me(api, meanwhile) == "in"

    assert press(page, key) == [UNDONE]
    owner.refresh_from_db()
    assert (owner.locked_until, owner.lock_reason, owner.locked_by) == (FOREVER, "first", super_admin.email)
    assert me(api, meanwhile) != "in"
    assert actors_of("user.locked")[0] == (str(admin.pk), str(owner.pk))


def test_a_lock_that_somebody_changed_meanwhile_stays(page: Client, owner: User, super_admin: User) -> None:
    key = act(page, "lock", owner)
    lock_user(owner, reason="second", by=super_admin)

    assert press(page, key) == ["Nothing was undone: somebody has changed the lock of owner@example.org since."]
    owner.refresh_from_db()
    assert (owner.is_locked, owner.lock_reason) == (True, "second")


def test_those_of_several_that_nobody_changed_are_undone(page: Client, owner: User, node_operator: User) -> None:
    key = act(page, "lock", owner, node_operator)
    unlock_user(owner, by="another")

    assert press(page, key) == [
        f"{UNDONE} The rest stays as it is: somebody has changed the lock of owner@example.org since."
    ]
    node_operator.refresh_from_db()
    assert not node_operator.is_locked


def test_an_operator_who_lost_the_right_cannot_undo(page: Client, owner: User) -> None:
    key = act(page, "lock", owner)
    User.objects.filter(pk=owner.pk).update(role=Role.ADMIN)

    assert press(page, key) == ["Nothing was undone: you may not change one of the accounts."]
    owner.refresh_from_db()
    assert owner.is_locked


def test_without_a_change_nothing_is_offered(page: Client, super_admin: User) -> None:
    (message,) = choose(page, "unlock", super_admin).context["messages"]
    assert (str(message), undo.key_of(message)) == ("You may not do this to any of the selected rows.", "")
