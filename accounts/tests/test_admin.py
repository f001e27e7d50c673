"""The operator pages: access, and what all pages have in common."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import IssuedToken, User
from accounts.tests.operators import browser, signed_in, user_page
from accounts.tokens.issuing import TokenPair
from accounts.users.locks import lock_user
from conftest import PASSWORD
from lucid_gateway.audit.events import record
from lucid_gateway.policy.roles import Role

LISTS = [
    *(f"/admin/accounts/{name}/" for name in ("user", "issuedtoken", "signin", "signingkey", "apikey")),
    "/admin/accounts/automaticlockout/",
    "/admin/audit/auditevent/",
]
PAGES = ["/admin/", "/admin/accounts/", "/admin/password_change/", *LISTS]


def test_staff_sign_in_with_email_and_password(admin: User) -> None:
    client = browser(enforce_csrf_checks=True)
    client.get("/admin/login/")
    token = client.cookies["csrftoken"].value
    data = {"username": "ADMIN@example.org", "password": PASSWORD, "csrfmiddlewaretoken": token}

    response = client.post("/admin/login/?next=/admin/", data)

    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert client.cookies["sessionid"]["path"] == "/admin"
    assert client.cookies["sessionid"]["httponly"]
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("case", ["wrong password", "no staff", "locked", "deactivated"])
def test_all_failed_logins_get_the_same_message(admin: User, case: str) -> None:
    User.objects.update(role=Role.NODE_OPERATOR if case == "no staff" else Role.ADMIN, is_active=case != "deactivated")
    if case == "locked":
        lock_user(User.objects.get(), reason="", by="")
    password = PASSWORD + ("x" if case == "wrong password" else "")

    response = browser().post("/admin/login/", {"username": admin.email, "password": password})

    assert response.status_code == 200
    assert "The email, password or code is wrong, or the account is not a staff account." in response.content.decode()


def test_a_form_without_its_csrf_token_is_refused(admin: User) -> None:
    client = browser(enforce_csrf_checks=True)

    assert client.post("/admin/login/", {"username": admin.email, "password": PASSWORD}).status_code == 403


def test_staff_can_open_every_page(page: Client, owner: User, tokens: TokenPair) -> None:
    # Django's page of an app leads to the overview.
    assert {path: page.get(path, follow=True).status_code for path in PAGES} == dict.fromkeys(PAGES, 200)


def test_other_users_are_redirected_to_the_login(node_operator: User) -> None:
    others = (browser(), signed_in(node_operator))

    for path in [*PAGES, "/admin/accounts/user/x/change/", "/admin/no/such/page/"]:
        for response in (client.get(path) for client in others):
            assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/")


def test_the_pages_do_not_link_to_a_site(page: Client) -> None:
    assert "View site" not in page.get("/admin/").content.decode()


def test_an_access_token_does_not_open_the_pages(tokens: TokenPair) -> None:
    client = browser(headers={"Authorization": f"Bearer {tokens.access}"})

    assert client.get("/admin/").status_code == 302


def test_a_session_does_not_open_the_api(page: Client) -> None:
    assert page.get("/api/v1/users/me").status_code == 401


@pytest.mark.parametrize(
    "change", [{"role": Role.USER}, {"role": Role.NODE_OPERATOR}, {"is_active": False}], ids=["user", "operator", "off"]
)
def test_a_demoted_or_deactivated_admin_loses_access(page: Client, admin: User, change: dict[str, Any]) -> None:
    User.objects.update(**change)

    assert page.get("/admin/").status_code == 302


def test_a_locked_admin_loses_access(page: Client, admin: User) -> None:
    lock_user(admin, reason="", by="")

    assert page.get("/admin/").status_code == 302


def test_lists_can_be_sorted_by_every_column(page: Client, tokens: TokenPair) -> None:
    for path in LISTS:
        for order in range(9):
            assert page.get(f"{path}?o={order}").status_code == 200


def test_every_filter_shows_its_number_of_rows(page: Client, tokens: TokenPair) -> None:
    record("login.failed")

    for path in LISTS:
        assert page.get(f"{path}?_facets=True").status_code == 200


def test_no_page_shows_a_secret(super_admin_page: Client, owner: User, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()
    pages = [*PAGES, user_page(owner), f"/admin/accounts/issuedtoken/{row.jti}/change/"]
    shown = "".join(super_admin_page.get(path).content.decode() for path in pages)

    assert owner.password not in shown
    assert "argon2" not in shown
    assert tokens.access not in shown
    assert tokens.refresh.rpartition(".")[2] not in shown


def test_no_row_can_be_added_or_deleted(super_admin_page: Client, owner: User, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    for path in ("user/add/", f"user/{owner.pk}/delete/", "issuedtoken/add/", f"issuedtoken/{row.jti}/delete/"):
        assert super_admin_page.get(f"/admin/accounts/{path}").status_code == 403
    for model in ("user", "issuedtoken"):
        assert "delete_selected" not in super_admin_page.get(f"/admin/accounts/{model}/").content.decode()


def test_groups_are_not_offered_because_they_have_no_effect(super_admin_page: Client) -> None:
    assert super_admin_page.get("/admin/auth/group/").status_code == 404
    assert "Groups" not in super_admin_page.get("/admin/").content.decode()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{ 7 }}"])
def test_names_of_users_are_escaped(page: Client, owner: User, text: str) -> None:
    User.objects.filter(pk=owner.pk).update(first_name=text)

    assert "<script>alert" not in page.get(user_page(owner)).content.decode()


def test_the_pages_are_not_cached_or_framed(page: Client) -> None:
    response = page.get("/admin/")

    assert response["X-Frame-Options"] == "DENY"
    assert "no-store" in response["Cache-Control"]
