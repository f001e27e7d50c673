"""The operator pages for users: actions on the selected users."""

import threading
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from accounts.lockouts import GuessAttempt, account, active_lockouts, second_factor, signed_in_user
from accounts.models import ApiKey, User
from accounts.tests.conftest import Phone, code_in, post, wait_for_senders
from accounts.tests.operators import act, actors_of, choose, me, messages_of
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import lock_user
from accounts.users.profile import delete_account
from conftest import ApiClient, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.operators import confirmation
from lucid_gateway.policy.roles import Role
from testing.mail import Mailbox

LIST = "/admin/accounts/user/"
DANGEROUS = ["lock", "end_sessions", "reset_factors", "change_role", "delete_accounts"]
FOR_SUPER_ADMINS = ["change_role", "delete_accounts"]
KINDS = {
    "lock": "user.locked", "unlock": "user.unlocked", "lift_lockouts": "lockout.lifted",
    "end_sessions": "token.revoked", "reset_factors": "totp.reset", "change_role": "user.role_changed",
    "send_login_link": "login.mailed", "delete_accounts": "user.deleted",
}  # fmt: skip


def state_of(user: User) -> dict[str, Any]:
    """Return all fields of the user's row."""
    return User.objects.filter(pk=user.pk).values().get()


def shown(response: Any) -> list[str]:
    """Return the rows that the confirmation page lists."""
    return [text for _, text in response.context["rows"]]


@pytest.mark.parametrize("action", DANGEROUS)
def test_a_dangerous_action_asks_first(super_admin_page: Client, owner: User, action: str) -> None:
    before = state_of(owner)
    response = choose(super_admin_page, action, owner, reason="why", role="admin")

    assert (response.status_code, shown(response)) == (200, ["owner@example.org"])
    assert f'name="_confirmed" value="{response.context["title"]}"' in response.content.decode()
    assert state_of(owner) == before
    assert AuditEvent.objects.count() == 0


@pytest.mark.parametrize("action", KINDS)
def test_each_action_is_recorded_with_the_operator(
    super_admin_page: Client, super_admin: User, owner: User, action: str
) -> None:
    assert act(super_admin_page, action, owner, role="admin")[0].startswith("1 user: ")

    assert actors_of(KINDS[action]) == [(str(super_admin.pk), str(owner.pk))]
    assert AuditEvent.objects.get().request_id


def test_an_admin_cannot_use_the_actions_of_super_admins(page: Client, owner: User) -> None:
    before, offered = state_of(owner), page.get(LIST).content.decode()

    for action in FOR_SUPER_ADMINS:
        assert action not in offered
        act(page, action, owner, role="admin")
    assert state_of(owner) == before


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
def test_an_admin_cannot_act_on_other_staff(page: Client, role: Role) -> None:
    colleague = make_user("colleague", role)
    lock_user(colleague, reason="", by="")
    before = state_of(colleague)

    for action in KINDS:
        act(page, action, colleague, role="user")
    assert state_of(colleague) == before
    assert AuditEvent.objects.count() == 1  # the lock


def test_operators_cannot_act_on_themselves(super_admin_page: Client, super_admin: User) -> None:
    before = state_of(super_admin)

    for action in DANGEROUS:
        assert act(super_admin_page, action, super_admin, role="user") == [
            "You may not do this to any of the selected rows."
        ]
    assert state_of(super_admin) == before


def test_deleted_accounts_are_left_out(super_admin_page: Client, owner: User) -> None:
    delete_account(owner)
    before = state_of(owner)

    for action in KINDS:
        act(super_admin_page, action, owner, role="admin")
    assert state_of(owner) == before


@pytest.mark.parametrize("action", ["lock", "end_sessions"])
def test_an_admin_cannot_lock_other_staff_out(page: Client, api: ApiClient, super_admin: User, action: str) -> None:
    tokens = issue_tokens(super_admin)
    act(page, action, super_admin)

    assert me(api, tokens) == "in"


def test_the_page_says_how_many_users_are_left_out(page: Client, admin: User, super_admin: User, owner: User) -> None:
    response = choose(page, "lock", owner, super_admin, admin)

    assert shown(response) == ["owner@example.org"]
    assert "2 of the selected are left out" in response.content.decode()
    assert "left out" not in choose(page, "lock", owner).content.decode()


def test_an_action_applies_only_to_the_rows_that_were_shown(page: Client, owner: User, node_operator: User) -> None:
    """Also with `select all`, which would include rows that were added since."""
    asked = choose(page, "lock", owner, select_across="1", query="?role__exact=user")
    assert shown(asked) == ["owner@example.org"]
    late = make_user("late", Role.USER)

    assert 'name="select_across"' not in asked.content.decode().partition('name="_confirmed"')[0]
    keys = [User(pk=key) for key, _ in asked.context["rows"]]
    assert act(page, "lock", *keys, query="?role__exact=user") == ["1 user: locked."]
    assert not User.objects.get(pk=late.pk).is_locked


def test_all_pages_of_a_list_can_be_selected(page: Client, owner: User, node_operator: User) -> None:
    response = choose(page, "lock", owner, select_across="1", query="?q=example")

    assert sorted(shown(response)) == ["node-operator@example.org", "owner@example.org"]


def test_too_many_rows_are_refused(
    page: Client, owner: User, node_operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmation, "MAX_ROWS", 1)

    assert act(page, "lock", owner, node_operator) == ["Select at most 1 row."]
    assert User.objects.locked().count() == 0


def test_a_lock_needs_a_reason(page: Client, owner: User) -> None:
    response = choose(page, "lock", owner, _confirmed="yes", reason=" ")

    assert "This field is required" in response.content.decode()
    assert User.objects.locked().count() == 0


def test_a_lock_names_its_author_and_takes_effect_immediately(
    page: Client, api: ApiClient, owner: User, tokens: TokenPair, admin: User
) -> None:
    assert act(page, "lock", owner, reason="Lost laptop") == ["1 user: locked."]

    owner.refresh_from_db()
    assert (owner.locked_by, owner.lock_reason, owner.is_locked) == (admin.email, "Lost laptop", True)
    details = AuditEvent.objects.get(type="user.locked").details
    assert details.pop("changes") == {"locked_until": [None, "no end"], "lock_reason": ["", "Lost laptop"]}
    assert details == {"reason": "Lost laptop", "until": None}
    assert me(api, tokens) == "2005"
    assert act(page, "unlock", owner) == ["1 user: unlocked."]
    assert me(api, issue_tokens(owner)) == "in"


def test_operators_cannot_lock_themselves(super_admin_page: Client, super_admin: User, owner: User) -> None:
    act(super_admin_page, "lock", super_admin, owner)

    assert list(User.objects.locked()) == [owner]


def test_a_login_link_is_mailed_as_by_a_login(page: Client, api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    assert act(page, "send_login_link", owner) == ["1 user: login link sent."]

    assert post(api, "verify", email=owner.email, code=code_in(mailbox, owner.email)).status_code == 200


def test_a_locked_user_gets_no_login_link(page: Client, owner: User, mailbox: Mailbox) -> None:
    lock_user(owner, reason="", by="")

    assert act(page, "send_login_link", owner) == [
        "A locked or deleted user cannot log in: not all login links were sent."
    ]
    wait_for_senders()
    assert mailbox.mails == []


def test_login_links_are_limited_like_logins(page: Client, owner: User, mailbox: Mailbox) -> None:
    for _ in range(settings.ENV.LOGINS_PER_ACCOUNT):
        act(page, "send_login_link", owner)

    assert act(page, "send_login_link", owner) == [
        "This user has asked for too many logins. Send the login link in a few minutes."
    ]


def test_without_redis_no_login_link_is_sent(page: Client, owner: User) -> None:
    breaker.outage = Outage()

    assert act(page, "send_login_link", owner) == ["Redis is unavailable: not all login links were sent. Try again."]
    assert actors_of("login.mailed") == []


def test_all_sessions_of_a_user_are_ended(
    page: Client, api: ApiClient, owner: User, tokens: TokenPair, node_operator: User
) -> None:
    others = issue_tokens(node_operator)

    assert act(page, "end_sessions", owner) == ["1 user: sessions ended."]
    assert (me(api, tokens), me(api, others)) == ("2003", "in")


def test_a_super_admin_changes_the_role_of_several_users(
    super_admin_page: Client, api: ApiClient, owner: User, tokens: TokenPair, node_operator: User
) -> None:
    assert act(super_admin_page, "change_role", owner, node_operator, role="admin") == ["2 users: role changed."]

    assert User.objects.filter(role="admin").count() == 2
    assert me(api, tokens) == "2003"


def test_an_unknown_role_is_an_error_message(super_admin_page: Client, owner: User) -> None:
    response = choose(super_admin_page, "change_role", owner, _confirmed="yes", role="king")

    assert "Select a valid choice" in response.content.decode()
    assert state_of(owner)["role"] == "user"


def test_second_factors_are_reset(page: Client, api: ApiClient, owner: User, tokens: TokenPair, phone: Phone) -> None:
    assert act(page, "reset_factors", owner) == ["1 user: second factors reset."]

    owner.refresh_from_db()
    assert (owner.totp_enabled, owner.totp_secret, owner.recovery_codes.count()) == (False, "", 0)
    assert me(api, tokens) == "2003"


@pytest.mark.parametrize("factors", [["wallet"], ["phone"], ["phone", "wallet"]], ids="+".join)
def test_a_reset_is_recorded_for_each_factor_that_was_on(
    page: Client, admin: User, owner: User, factors: list[str], request: pytest.FixtureRequest
) -> None:
    for factor in factors:
        request.getfixturevalue(factor)

    act(page, "reset_factors", owner)

    for kind, factor in (("totp.reset", "phone"), ("wallet.reset", "wallet")):
        assert actors_of(kind) == [(str(admin.pk), str(owner.pk))] * (factor in factors)


def test_a_deleted_account_has_no_personal_data(
    super_admin_page: Client, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    ApiKey.objects.create(key_id="k", user=owner, name="laptop", secret_hash="")

    assert act(super_admin_page, "delete_accounts", owner) == ["1 user: deleted."]
    owner.refresh_from_db()
    assert (owner.is_active, owner.username) == (False, owner.email.partition("@")[0])
    assert me(api, tokens) == "2003"
    assert "owner@example.org" not in super_admin_page.get(LIST).content.decode()


def test_all_lockouts_of_a_user_are_lifted(page: Client, owner: User) -> None:
    own = account(owner.email), second_factor(owner.email), signed_in_user(owner.pk)
    for subject in (*own, account("other@example.org")):
        for _ in range(10):
            GuessAttempt(subject)

    assert act(page, "lift_lockouts", owner) == ["1 user: lockouts lifted."]
    assert [lockout.subject.name for lockout in active_lockouts()] == ["other@example.org"]


def test_without_redis_lifting_shows_an_error_message(page: Client, owner: User) -> None:
    breaker.outage = Outage()

    assert act(page, "lift_lockouts", owner) == ["Redis is unavailable: not all lockouts were lifted. Try again."]
    assert actors_of("lockout.lifted") == []


def test_a_lock_works_without_redis(page: Client, api: ApiClient, owner: User, tokens: TokenPair) -> None:
    breaker.outage = Outage()

    assert act(page, "lock", owner) == ["1 user: locked."]
    assert me(api, tokens) == "2005"
    breaker.outage = None
    for thread in threading.enumerate():
        if thread.name == "revocation":
            thread.join()


@pytest.mark.parametrize("action", ["", "no_such_action"])
def test_an_unknown_action_is_an_error_message(page: Client, owner: User, action: str) -> None:
    assert messages_of(choose(page, action, owner)) == ["No action selected."]
