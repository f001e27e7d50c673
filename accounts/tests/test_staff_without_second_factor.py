"""Where staff need a second factor, those without one have no permissions of staff in the API either."""

from typing import Any

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from accounts.api_keys import create_api_key
from accounts.factors.table import FACTORS, factors_of
from accounts.models import User
from accounts.tests.conftest import Clock, code_in, phone_of, post
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code, make_user
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.roles import PERMISSIONS, STAFF, Role
from testing.mail import Mailbox

REMEDY = "Staff need a second factor for this: add one at /admin/second-factor/, then refresh the token"


@pytest.fixture
def required(settings: Settings) -> None:
    """Staff must have a second factor."""
    settings.ENV = settings.ENV.model_copy(update={"STAFF_SECOND_FACTOR": "required"})


def list_users(api: ApiClient, token: str) -> Any:
    return api.send("get", "/admin/users", token=token)


def is_refused(response: Any) -> bool:
    """Return whether the answer is the 403 that names the remedy; otherwise it must be a success."""
    if response.status_code == 200:
        return False
    error = response.json()["error"]
    assert (response.status_code, error_code(response)) == (403, "2004")
    assert (error["message"], error["details"]) == (REMEDY, {"permission": "admin:read"})
    return True


def test_a_login_by_mail_gives_no_permissions_of_staff(
    required: None, api: ApiClient, admin: User, mailbox: Mailbox
) -> None:
    post(api, "login", email=admin.email)
    token = post(api, "verify", email=admin.email, code=code_in(mailbox, admin.email)).json()["access_token"]

    assert is_refused(list_users(api, token))
    status = api.send("get", "/auth/status", token=token).json()
    assert set(status["permissions"]) == PERMISSIONS[Role.NODE_OPERATOR]
    assert api.send("get", "/users/me", token=token).status_code == 200


def test_after_the_enrolment_a_refreshed_token_has_them(
    required: None, api: ApiClient, admin: User, clock: Clock
) -> None:
    pair = issue_tokens(admin)
    assert is_refused(list_users(api, pair.access))
    phone_of(admin, clock)

    refreshed = post(api, "refresh", refresh_token=pair.refresh).json()["access_token"]
    assert not is_refused(list_users(api, refreshed))


@pytest.mark.parametrize("enrolled", [False, True])
def test_an_api_key_of_staff_has_none_either(
    required: None, api: ApiClient, admin: User, clock: Clock, enrolled: bool
) -> None:
    if enrolled:
        phone_of(admin, clock)
    _, text = create_api_key(admin, name="script", permissions=["admin:read"])

    assert is_refused(api.send("get", "/admin/users", headers={"X-API-Key": text})) != enrolled


@pytest.mark.parametrize("column", ["totp_enabled", "hardware_wallet_enabled"])
def test_any_second_factor_is_enough(required: None, api: ApiClient, admin: User, column: str) -> None:
    User.objects.filter(pk=admin.pk).update(**{column: True})

    assert not is_refused(list_users(api, issue_tokens(User.objects.get(pk=admin.pk)).access))


def test_where_it_is_optional_staff_may_go_without(api: ApiClient, admin: User) -> None:
    assert not django_settings.ENV.second_factor_required
    assert not is_refused(list_users(api, issue_tokens(admin).access))


def test_the_message_is_not_for_those_who_would_lack_the_permission_anyway(
    required: None, api: ApiClient, owner: User
) -> None:
    admin_only = api.send("get", "/admin/users", token=issue_tokens(owner).access)
    assert admin_only.json()["error"]["message"] == "Insufficient permissions"


@pytest.mark.parametrize("role", Role)
def test_only_the_permissions_of_staff_are_lost(role: Role) -> None:
    caller = Caller("id", role, "jti", "family", 0, must_enrol=True)

    expected = PERMISSIONS[Role.NODE_OPERATOR] if role in STAFF else PERMISSIONS[role]
    assert caller.permissions == expected
    assert not [name for name in caller.permissions if name.startswith(("admin:", "system:manage"))]


def test_every_factor_counts_as_one() -> None:
    for factor in FACTORS:
        user = User(**{factor.enabled: True})
        assert user.has_second_factor
        assert factors_of(user) == (factor,)
    assert not User().has_second_factor


def test_an_enrolment_that_was_not_confirmed_does_not_count(required: None, api: ApiClient, db: None) -> None:
    staff = make_user("staff", Role.ADMIN)
    User.objects.filter(pk=staff.pk).update(totp_secret="pending")

    assert is_refused(list_users(api, issue_tokens(User.objects.get(pk=staff.pk)).access))
