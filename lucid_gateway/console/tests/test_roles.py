"""Every operator page × role, by GET and by a direct POST: what only super admins may do, an admin cannot.

The pages are listed in pages.py; its docstring says how to add one. A new act that only super admins may do needs a
line in `acts` and `ACTS`. An action with `permissions=["govern"]` is tried without a line.
"""

from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model
from django.test import Client

from accounts.api_keys import create_api_key
from accounts.lockouts import GuessAttempt, account, active_lockouts
from accounts.models import ApiKey, IssuedToken, RecoveryCode, SigningKey, User
from accounts.tests.conftest import Clock, phone_of
from accounts.tests.operators import browser, signed_in
from accounts.tokens import signing_keys
from accounts.tokens.issuing import issue_tokens
from accounts.users.locks import lock_user
from conftest import PASSWORD, make_user
from lucid_gateway.console.tests.pages import PAGES, address, make_rows, patterns
from lucid_gateway.policy.roles import Role
from proxy.models import EdgeExclusion, Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.models import Manifest, Session, TrustPolicy

TABLES: tuple[type[Model], ...] = (
    User, ApiKey, IssuedToken, RecoveryCode, SigningKey, Maintenance, AddressRule, LimitRule, Manifest, Session,
    TrustPolicy, EdgeExclusion,
)  # fmt: skip
VOLATILE = {"last_login", "login_attempts", "updated_at"}
CONFIRMED = {"_confirmed": "yes", "reason": "why", "proof": PASSWORD}
ROLES = ("anonymous", "user", "admin", "super_admin")


@dataclass(frozen=True)
class Cast:
    """The rows of all pages, a user, and an operator on whom only super admins may act."""

    rows: dict[str, str]
    owner: User
    colleague: User


@pytest.fixture
def cast(owner: User, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Cast:
    """Both people have tokens, an API key and a second factor; the colleague's key is suspended."""
    monkeypatch.setattr(signing_keys, "PUBLISHED_AFTER_SECONDS", 0)  # no other worker has to load a new key
    colleague = make_user("colleague", Role.ADMIN)
    rows = make_rows(owner)
    phone_of(owner, clock)
    phone_of(colleague, clock)
    issue_tokens(colleague)
    key, _ = create_api_key(colleague, name="suspended", permissions=["user:read"])
    ApiKey.objects.filter(pk=key.pk).update(suspended_at=key.created_at)
    return Cast(rows, owner, colleague)


def client_of(role: str) -> Client:
    """Return the browser of somebody with the role."""
    client = browser() if role == "anonymous" else signed_in(make_user(f"some-{role}", Role(role)))
    client.raise_request_exception = False
    return client


def state() -> dict[str, Any]:
    """Return all rows that operators can change, except those of the user who signs in for the test."""
    found: dict[str, Any] = {}
    for table in TABLES:
        rows = table._default_manager.all()
        if table is User:
            rows = rows.exclude(username__startswith="some-")
        values = ({name: value for name, value in row.items() if name not in VOLATILE} for row in rows.values())
        found[table.__name__] = sorted(values, key=str)
    return found | {"lockouts": sorted(lockout.subject.text for lockout in active_lockouts())}


def models_with_pages() -> dict[str, "ModelAdmin[Any]"]:
    """Return the ModelAdmins by `app/model`."""
    return {f"{model._meta.app_label}/{model._meta.model_name}": pages for model, pages in admin.site._registry.items()}


def actions_of(pages: "ModelAdmin[Any]") -> dict[str, Any]:
    """Return the functions of a list's actions by name."""
    return {name: function for function, name, _ in pages._get_base_actions()}


def form_for(pattern: str, cast: Cast) -> list[dict[str, Any]]:
    """Return what a POST to the page could try: each action of a list, otherwise a form that changes something."""
    model = "/".join(pattern.split("/")[:2])
    if pattern != f"{model}/" or model not in models_with_pages() or model not in cast.rows:
        new = {"username": "changed", "email": "changed@example.org", "role": "super_admin", "first_name": "Changed"}
        return [CONFIRMED | new | {"subject": "account:nobody@example.org", "step": "begin", "network": "10.1.0.0/16"}]
    chosen = {ACTION_CHECKBOX_NAME: [cast.rows[model]], "role": "super_admin"}
    return [CONFIRMED | chosen | {"action": name} for name in actions_of(models_with_pages()[model])]


def test_every_page_is_in_the_table() -> None:
    missing, gone = set(patterns()) - set(PAGES), set(PAGES) - set(patterns())

    assert not missing, f"add a line for each to PAGES: {missing}"
    assert not gone, f"remove from PAGES: {gone}"


@pytest.mark.parametrize("role", ROLES)
def test_a_page_opens_only_for_the_roles_in_the_table(cast: Cast, role: str) -> None:
    client = client_of(role)
    expected, found = {}, {}
    for pattern, page in PAGES.items():
        response = client.get(address(pattern, cast.rows))
        expected[pattern] = page.others if role in ("anonymous", "user") else getattr(page, role)
        found[pattern] = response.status_code
        if found[pattern] == 302 and role in ("anonymous", "user") and pattern != "logout/":
            assert response["Location"].startswith("/admin/login/"), pattern

    assert found == expected


@pytest.mark.parametrize("role", ["anonymous", "user"])
def test_nobody_but_staff_changes_anything_by_a_direct_post(cast: Cast, role: str) -> None:
    for _ in range(10):
        GuessAttempt(account("nobody@example.org"))
    client, before = client_of(role), state()
    for pattern in PAGES:
        for form in form_for(pattern, cast):
            response = client.post(address(pattern, cast.rows), form)
            assert response.status_code in (302, 403, 405) or pattern == "login/", pattern
            assert state() == before, (pattern, form.get("action"))


@pytest.mark.parametrize("role", ["admin", "super_admin"])
def test_a_page_that_does_not_open_takes_no_form_either(cast: Cast, role: str) -> None:
    client, before = client_of(role), state()
    for pattern, page in PAGES.items():
        if getattr(page, role) != 403:
            continue
        for form in form_for(pattern, cast):
            assert client.post(address(pattern, cast.rows), form).status_code in (403, 405), pattern
    assert state() == before


def acts(cast: Cast) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return what only super admins may do: the page and the form of each act."""
    user, colleague = cast.owner, cast.colleague
    key, tokens = colleague.api_keys.get(), colleague.issued_tokens
    access, refresh = tokens.get(kind="access"), tokens.get(kind="refresh")
    active = SigningKey.objects.get(state="active").kid

    def chosen(action: str, row: Model, **form: str) -> dict[str, Any]:
        return CONFIRMED | {"action": action, ACTION_CHECKBOX_NAME: [str(row.pk)]} | form

    def edited(who: User, **changes: str) -> tuple[str, dict[str, Any]]:
        form = {"email": who.email, "username": who.username, "role": str(who.role), "is_active": "on"}
        return f"accounts/user/{who.pk}/change/", CONFIRMED | form | changes

    users = "accounts/user/"
    return {
        "change a role": (users, chosen("change_role", user, role="admin")),
        "delete an account": (users, chosen("delete_accounts", user)),
        "change a role in the form": edited(user, role="super_admin"),
        "deactivate a user in the form": edited(user, is_active=""),
        "change the email of staff": edited(colleague, email="mine@example.org"),
        "change the name of staff": edited(colleague, first_name="Mine"),
        "lock staff": (users, chosen("lock", colleague)),
        "end the sessions of staff": (users, chosen("end_sessions", colleague)),
        "reset the second factors of staff": (users, chosen("reset_factors", colleague)),
        "revoke an API key of staff": ("accounts/apikey/", chosen("revoke", key)),
        "confirm an API key of staff": ("accounts/apikey/", chosen("confirm", key)),
        "revoke a token of staff": ("accounts/issuedtoken/", chosen("revoke", access)),
        "end a login of staff": ("accounts/issuedtoken/", chosen("end_families", access)),
        "sign a device of staff out": ("accounts/signin/", chosen("end_families", refresh)),
        "rotate the keys": ("accounts/signingkey/rotate/", CONFIRMED),
        "retire all keys": ("accounts/signingkey/rotate/?retire_now=1", CONFIRMED | {"typed": active}),
    }  # fmt: skip


ACTS = (
    "change a role", "delete an account", "change a role in the form", "deactivate a user in the form",
    "change the email of staff", "change the name of staff", "lock staff", "end the sessions of staff",
    "reset the second factors of staff", "revoke an API key of staff", "confirm an API key of staff",
    "revoke a token of staff", "end a login of staff", "sign a device of staff out", "rotate the keys",
    "retire all keys",
)  # fmt: skip


def test_every_act_is_tried(cast: Cast) -> None:
    assert tuple(acts(cast)) == ACTS


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("role", ["anonymous", "user", "admin"])
def test_only_a_super_admin_may(cast: Cast, role: str, act: str) -> None:
    path, form = acts(cast)[act]
    before = state()

    assert client_of(role).post(f"/admin/{path}", form).status_code in (200, 302, 403)
    assert state() == before


@pytest.mark.parametrize("act", ACTS)
def test_a_super_admin_may(cast: Cast, act: str) -> None:
    path, form = acts(cast)[act]
    before = state()

    assert client_of("super_admin").post(f"/admin/{path}", form).status_code == 302
    assert state() != before


def test_an_admin_cannot_unlock_staff(cast: Cast) -> None:
    lock_user(cast.colleague, reason="", by="")
    form = CONFIRMED | {"action": "unlock", ACTION_CHECKBOX_NAME: [str(cast.colleague.pk)]}

    client_of("admin").post("/admin/accounts/user/", form)
    assert User.objects.locked().count() == 1
    client_of("super_admin").post("/admin/accounts/user/", form)
    assert User.objects.locked().count() == 0


def test_actions_of_super_admins_do_nothing_for_an_admin(cast: Cast) -> None:
    client, before, tried = client_of("admin"), state(), []
    for model, pages in models_with_pages().items():
        for name, function in actions_of(pages).items():
            if "govern" in getattr(function, "allowed_permissions", ()):
                chosen = {"action": name, ACTION_CHECKBOX_NAME: [cast.rows[model]], "role": "super_admin"}
                client.post(f"/admin/{model}/", CONFIRMED | chosen)
                tried.append(name)
    assert state() == before
    assert {"change_role", "delete_accounts"} <= set(tried)


@pytest.mark.parametrize("end", ["locked", "demoted", "deactivated"])
def test_staff_lose_the_pages_with_the_next_request(cast: Cast, end: str) -> None:
    client = signed_in(cast.colleague)
    assert client.get("/admin/accounts/user/").status_code == 200
    changes: dict[str, Any] = {
        "locked": {"locked_until": SigningKey.objects.get(state="active").created_at.replace(year=9999)},
        "demoted": {"role": "user"}, "deactivated": {"is_active": False},
    }  # fmt: skip
    User.objects.filter(pk=cast.colleague.pk).update(**changes[end])

    for pattern in ("accounts/user/", "", "accounts/user/add/"):
        assert client.get(f"/admin/{pattern}")["Location"].startswith("/admin/login/")
    before = state()
    form = CONFIRMED | {"action": "lock", ACTION_CHECKBOX_NAME: [str(cast.owner.pk)]}
    assert client.post("/admin/accounts/user/", form)["Location"].startswith("/admin/login/")
    assert state() == before
