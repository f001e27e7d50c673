"""Dangerous actions of the operator pages ask for the password or a code again after 15 minutes."""

from typing import Any

import pytest
from django.test import Client

from accounts.lockouts import GuessAttempt, account, signed_in_user
from accounts.models import User
from accounts.tests.conftest import Clock, Phone, failures_of, phone_of
from accounts.tests.operators import act, browser, choose, prove, user_page
from conftest import PASSWORD, make_user
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.operators.identity import PROOF_SECONDS
from lucid_gateway.policy.roles import Role

LATE = PROOF_SECONDS + 60
WRONG = "The password or code is wrong."


@pytest.fixture
def late_page(super_admin: User, super_admin_page: Client) -> Client:
    """The browser of the super admin, who entered the password more than 15 minutes ago."""
    prove(super_admin_page, seconds_ago=LATE)
    return super_admin_page


@pytest.fixture
def phone(super_admin: User, clock: Clock) -> Phone:
    """The super admin's phone."""
    return phone_of(super_admin, clock)


def delete(client: Client, user: User, **form: str) -> Any:
    """Confirm the deletion of the account."""
    return choose(client, "delete_accounts", user, _confirmed="yes", **form)


def is_deleted(user: User) -> bool:
    user.refresh_from_db()
    return not user.is_active


def problem(response: Any) -> str:
    """Return the error of the proof."""
    text: str = response.context["form"].errors["proof"][0]
    assert text in response.content.decode()
    return text


@pytest.mark.parametrize("seconds_ago", [0, PROOF_SECONDS - 60])
def test_an_operator_with_a_recent_proof_is_not_asked(super_admin_page: Client, owner: User, seconds_ago: int) -> None:
    prove(super_admin_page, seconds_ago=seconds_ago)

    assert "proof" not in choose(super_admin_page, "delete_accounts", owner).context["form"].fields
    delete(super_admin_page, owner)
    assert is_deleted(owner)


def test_a_login_is_a_proof(super_admin: User, owner: User) -> None:
    client = browser()
    client.post("/admin/login/?next=/admin/", {"username": super_admin.email, "password": PASSWORD})

    delete(client, owner)
    assert is_deleted(owner)


def test_a_session_of_an_earlier_release_has_no_proof(super_admin: User, owner: User) -> None:
    client = browser()
    client.force_login(super_admin)

    assert problem(delete(client, owner)) == "This field is required."
    assert not is_deleted(owner)


def test_the_password_is_asked_after_fifteen_minutes_and_then_not_for_another_fifteen(
    late_page: Client, owner: User, node_operator: User
) -> None:
    assert problem(delete(late_page, owner)) == "This field is required."
    assert problem(delete(late_page, owner, proof="Wrong-Horse-7")) == WRONG
    assert not is_deleted(owner)

    delete(late_page, owner, proof=PASSWORD)
    delete(late_page, node_operator)
    assert is_deleted(owner)
    assert is_deleted(node_operator)


def test_a_wrong_proof_is_no_proof(late_page: Client, owner: User) -> None:
    delete(late_page, owner, proof="Wrong-Horse-7")

    assert problem(delete(late_page, owner)) == "This field is required."


def test_a_code_is_a_proof_and_works_once(late_page: Client, phone: Phone, owner: User, node_operator: User) -> None:
    code = phone.fresh_code()
    delete(late_page, owner, proof=code)
    assert is_deleted(owner)

    prove(late_page, seconds_ago=LATE)
    assert problem(delete(late_page, node_operator, proof=code)) == WRONG
    assert not is_deleted(node_operator)


def test_a_code_is_not_used_up_while_the_form_has_other_errors(late_page: Client, phone: Phone, owner: User) -> None:
    code = phone.fresh_code()
    choose(late_page, "change_role", owner, _confirmed="yes", role="king", proof=code)

    act(late_page, "change_role", owner, role="admin", proof=code)
    owner.refresh_from_db()
    assert owner.role == "admin"


def test_without_an_authenticator_app_six_digits_are_a_password(
    late_page: Client, super_admin: User, owner: User
) -> None:
    assert problem(delete(late_page, owner, proof="123456")) == WRONG

    assert failures_of(account(super_admin.email)) == 1


@pytest.mark.parametrize("proof", [PASSWORD, "code"])
def test_guesses_lead_to_a_lockout(late_page: Client, super_admin: User, phone: Phone, owner: User, proof: str) -> None:
    right = phone.fresh_code() if proof == "code" else proof
    subject = signed_in_user(super_admin.pk) if proof == "code" else account(super_admin.email)
    for _ in range(10):
        GuessAttempt(subject)

    assert problem(delete(late_page, owner, proof=right)).startswith("Too many attempts. Try again in ")
    assert not is_deleted(owner)


def test_a_password_that_cannot_be_checked_is_an_error_message(late_page: Client, owner: User) -> None:
    breaker.outage = Outage()

    assert "cannot check passwords" in problem(delete(late_page, owner, proof=PASSWORD))
    assert not is_deleted(owner)


@pytest.mark.parametrize("action", ["change_role", "delete_accounts", "reset_factors"])
def test_these_actions_are_dangerous(late_page: Client, owner: User, action: str) -> None:
    assert "proof" in choose(late_page, action, owner, role="admin").context["form"].fields


@pytest.mark.parametrize(("role", "dangerous"), [(Role.USER, False), (Role.ADMIN, True), (Role.SUPER_ADMIN, True)])
def test_ending_sessions_is_dangerous_for_those_of_staff(
    late_page: Client, owner: User, role: Role, dangerous: bool
) -> None:
    asked = choose(late_page, "end_sessions", make_user("somebody", role))

    assert ("proof" in asked.context["form"].fields) == dangerous


@pytest.mark.parametrize("changes", [{"email": "new@example.org"}, {"role": "admin"}, {"is_active": ""}])
def test_these_changes_on_a_users_page_are_dangerous(late_page: Client, owner: User, changes: dict[str, str]) -> None:
    form = {"email": owner.email, "username": owner.username, "role": "user", "is_active": "on", "reason": "why"}
    asked = late_page.post(user_page(owner), form | changes | {"_confirmed": "yes"})

    assert problem(asked) == "This field is required."
    owner.refresh_from_db()
    assert (owner.email, owner.role, owner.is_active) == ("owner@example.org", "user", True)


@pytest.mark.parametrize("query", ["", "?retire_now=1"])
def test_rotating_the_keys_is_dangerous(late_page: Client, ring: object, query: str) -> None:
    asked = late_page.get(f"/admin/accounts/signingkey/rotate/{query}")

    assert "proof" in asked.context["form"].fields


def test_the_page_of_a_dangerous_action_never_shows_the_proof(late_page: Client, owner: User) -> None:
    response = delete(late_page, owner, proof="Wrong-Horse-7")

    assert "Wrong-Horse-7" not in response.content.decode()
    assert 'type="password"' in response.content.decode()
