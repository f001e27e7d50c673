"""The operator pages: who gets in, what they see, and what they may do."""

from typing import Any

import pytest
from django.test import Client

from accounts.locks import lock_user
from accounts.models import IssuedToken, User
from accounts.roles import Role
from accounts.tokens import TokenPair, issue_tokens
from conftest import PASSWORD, ApiClient, error_code, make_user

PAGES = [
    "/admin/",
    "/admin/accounts/",
    "/admin/accounts/user/",
    "/admin/accounts/issuedtoken/",
    "/admin/password_change/",
]


@pytest.fixture
def admin(db: None) -> User:
    """A user who looks after the others."""
    return make_user("admin", Role.ADMIN)


def signed_in(user: User) -> Client:
    client = Client(HTTP_HOST="testserver")
    client.force_login(user)
    return client


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin."""
    return signed_in(admin)


@pytest.fixture
def above(super_admin: User) -> Client:
    """The browser of the super admin."""
    return signed_in(super_admin)


def user_page(user: User) -> str:
    return f"/admin/accounts/user/{user.pk}/change/"


def form_of(client: Client, user: User, **changes: str) -> dict[str, str]:
    """Return what the browser would send for the user's page with some fields changed."""
    form = client.get(user_page(user)).context["adminform"].form
    return {name: str(form.initial[name]) for name in form.fields if form.initial[name] not in (None, False)} | changes


def act(client: Client, action: str, *rows: Any, model: str = "user", query: str = "") -> str:
    """Run an action on rows; return the page that follows."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], "_confirmed": "yes", "reason": "why"}
    response = client.post(f"/admin/accounts/{model}/{query}", data, follow=True)
    return str(response.content.decode())


def me(api: ApiClient, tokens: TokenPair) -> str:
    response = api.send("get", "/users/me", token=tokens.access)
    return "in" if response.status_code == 200 else error_code(response)


def test_staff_sign_in_with_email_and_password(admin: User) -> None:
    client = Client(HTTP_HOST="testserver", enforce_csrf_checks=True)
    client.get("/admin/login/")
    token = client.cookies["csrftoken"].value
    data = {"username": "ADMIN@example.org", "password": PASSWORD, "csrfmiddlewaretoken": token}

    response = client.post("/admin/login/?next=/admin/", data)

    assert (response.status_code, response["Location"]) == (302, "/admin/")
    assert client.cookies["sessionid"]["path"] == "/admin"
    assert client.cookies["sessionid"]["httponly"]
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("case", ["wrong password", "no staff", "locked", "deactivated"])
def test_nobody_else_signs_in_and_all_are_told_the_same(admin: User, case: str) -> None:
    User.objects.update(role=Role.NODE_OPERATOR if case == "no staff" else Role.ADMIN, is_active=case != "deactivated")
    if case == "locked":
        lock_user(User.objects.get(), reason="", by="")
    password = PASSWORD + ("x" if case == "wrong password" else "")

    response = Client(HTTP_HOST="testserver").post("/admin/login/", {"username": admin.email, "password": password})

    assert response.status_code == 200
    assert "Please enter the correct email and password for a staff account" in response.content.decode()


def test_a_form_without_its_csrf_token_is_refused(admin: User) -> None:
    client = Client(HTTP_HOST="testserver", enforce_csrf_checks=True)

    assert client.post("/admin/login/", {"username": admin.email, "password": PASSWORD}).status_code == 403


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_there_for_staff(page: Client, owner: User, tokens: TokenPair, path: str) -> None:
    assert page.get(path).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/admin/accounts/user/x/change/", "/admin/no/such/page/"])
def test_others_are_sent_to_the_login(node_operator: User, path: str) -> None:
    for client in (Client(HTTP_HOST="testserver"), signed_in(node_operator)):
        response = client.get(path)
        assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/")


def test_no_link_leads_nowhere(page: Client) -> None:
    assert "View site" not in page.get("/admin/").content.decode()


def test_an_access_token_is_no_session(tokens: TokenPair) -> None:
    client = Client(HTTP_HOST="testserver", headers={"Authorization": f"Bearer {tokens.access}"})

    assert client.get("/admin/").status_code == 302


def test_a_session_is_no_access_token(api: ApiClient, page: Client) -> None:
    assert page.get("/api/v1/users/me").status_code == 401


@pytest.mark.parametrize(
    "change", [{"role": Role.USER}, {"role": Role.NODE_OPERATOR}, {"is_active": False}], ids=["user", "operator", "off"]
)
def test_a_demoted_or_deactivated_admin_is_out_at_once(page: Client, admin: User, change: dict[str, Any]) -> None:
    User.objects.update(**change)

    assert page.get("/admin/").status_code == 302


def test_a_locked_admin_is_out_at_once(page: Client, admin: User) -> None:
    lock_user(admin, reason="", by="")

    assert page.get("/admin/").status_code == 302


@pytest.mark.parametrize(
    ("query", "found"),
    [("?q=OWNER", ["owner"]), ("?q=nobody", []), ("?role__exact=admin", ["admin"]), ("?is_active__exact=0", []),
     ("?q=example&role__exact=user", ["owner"]), ("?email_verified__exact=0&o=2", ["admin", "owner"])],
)  # fmt: skip
def test_users_are_searched_and_filtered(page: Client, owner: User, query: str, found: list[str]) -> None:
    rows = page.get(f"/admin/accounts/user/{query}").context["cl"].result_list

    assert [row.username for row in rows] == found


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 2), ("?q=owner@example.org", 2), ("?q=192.0.2.1", 2), ("?q=nobody", 0), ("?kind__exact=refresh", 1),
     ("?revoked_at__isnull=True", 2), ("?revoked_at__isnull=False", 0), ("?o=2.-5", 2)],
)  # fmt: skip
def test_tokens_are_searched_and_filtered(page: Client, tokens: TokenPair, query: str, count: int) -> None:
    assert len(page.get(f"/admin/accounts/issuedtoken/{query}").context["cl"].result_list) == count


@pytest.mark.parametrize("column", range(1, 9))
def test_every_column_sorts(page: Client, tokens: TokenPair, column: int) -> None:
    assert page.get(f"/admin/accounts/issuedtoken/?o={column}").status_code == 200
    assert page.get(f"/admin/accounts/user/?o=-{min(column, 7)}").status_code == 200


def test_a_token_is_found_by_its_name(page: Client, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    assert [found.jti for found in page.get(f"/admin/accounts/issuedtoken/?q={row.jti}").context["cl"].result_list] == [
        row.jti
    ]
    assert page.get(f"/admin/accounts/issuedtoken/{row.jti}/change/").status_code == 200


def test_secrets_are_nowhere(above: Client, owner: User, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()
    pages = [*PAGES, user_page(owner), f"/admin/accounts/issuedtoken/{row.jti}/change/"]
    shown = "".join(above.get(path).content.decode() for path in pages)

    assert owner.password not in shown
    assert "argon2" not in shown
    assert tokens.access not in shown
    assert tokens.refresh.rpartition(".")[2] not in shown


def test_nobody_adds_or_deletes(above: Client, owner: User, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    for path in ("user/add/", f"user/{owner.pk}/delete/", "issuedtoken/add/", f"issuedtoken/{row.jti}/delete/"):
        assert above.get(f"/admin/accounts/{path}").status_code == 403
    for model in ("user", "issuedtoken"):
        assert "delete_selected" not in above.get(f"/admin/accounts/{model}/").content.decode()


def test_tokens_are_not_edited(above: Client, tokens: TokenPair) -> None:
    row = IssuedToken.objects.first()

    assert above.post(f"/admin/accounts/issuedtoken/{row.jti}/change/", {"address": "x"}).status_code == 403


def test_groups_that_would_mean_nothing_are_not_offered(above: Client) -> None:
    assert above.get("/admin/auth/group/").status_code == 404
    assert "Groups" not in above.get("/admin/").content.decode()


def test_an_admin_corrects_a_users_names(page: Client, owner: User) -> None:
    response = page.post(user_page(owner), form_of(page, owner, first_name="Olga"))

    assert response.status_code == 302
    owner.refresh_from_db()
    assert owner.first_name == "Olga"


def test_an_edited_email_is_kept_in_lower_case(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, email="New@Example.ORG"))

    owner.refresh_from_db()
    assert owner.email == "new@example.org"


@pytest.mark.parametrize(("field", "taken"), [("email", "ADMIN@Example.org"), ("username", "admin")])
def test_a_taken_email_or_username_is_a_message(page: Client, owner: User, field: str, taken: str) -> None:
    response = page.post(user_page(owner), form_of(page, owner, **{field: taken}))

    assert response.status_code == 200
    assert "already exists" in response.content.decode()


def test_an_admin_does_not_change_roles(page: Client, owner: User) -> None:
    form = form_of(page, owner)
    assert not {"role", "is_active"} & set(form)

    page.post(user_page(owner), form | {"role": "super_admin"})

    owner.refresh_from_db()
    assert (owner.role, owner.is_active) == ("user", True)


def test_an_admin_does_not_change_other_staff(page: Client, super_admin: User, admin: User) -> None:
    colleague = make_user("colleague", Role.ADMIN)

    for other in (super_admin, colleague):
        response = page.post(user_page(other), {"email": "mine@example.org", "username": "mine"})
        assert response.status_code == 403
        other.refresh_from_db()
        assert other.email != "mine@example.org"
    assert page.get(user_page(super_admin)).status_code == 200


@pytest.mark.parametrize("action", ["lock", "end_sessions"])
def test_an_admin_does_not_shut_other_staff_out(page: Client, api: ApiClient, super_admin: User, action: str) -> None:
    tokens = issue_tokens(super_admin)
    act(page, action, super_admin)

    assert me(api, tokens) == "in"


def test_a_super_admin_changes_roles_and_the_old_tokens_end(
    above: Client, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    assert above.post(user_page(owner), form_of(above, owner, role="node_operator")).status_code == 302

    owner.refresh_from_db()
    assert owner.role == "node_operator"
    assert me(api, tokens) == "2003"
    assert error_code(api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh})) == "2010"


def test_a_deactivation_ends_the_tokens(above: Client, api: ApiClient, owner: User, tokens: TokenPair) -> None:
    form = form_of(above, owner)
    del form["is_active"]
    above.post(user_page(owner), form)

    owner.refresh_from_db()
    assert owner.is_active is False
    assert me(api, tokens) == "2003"


def test_another_change_leaves_the_tokens_alone(above: Client, api: ApiClient, owner: User, tokens: TokenPair) -> None:
    above.post(user_page(owner), form_of(above, owner, last_name="Owner"))

    assert me(api, tokens) == "in"


def test_nobody_changes_their_own_role(above: Client, super_admin: User) -> None:
    form = form_of(above, super_admin)
    assert not {"role", "is_active"} & set(form)

    above.post(user_page(super_admin), form | {"role": "user"})

    super_admin.refresh_from_db()
    assert (super_admin.role, super_admin.is_active) == ("super_admin", True)


def test_an_edit_does_not_undo_a_lock_set_meanwhile(page: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    form = form_of(page, owner, first_name="Olga")
    clean = User.clean

    def lock_meanwhile(user: User) -> None:
        lock_user(User.objects.get(pk=user.pk), reason="", by="")
        clean(user)

    monkeypatch.setattr(User, "clean", lock_meanwhile)
    page.post(user_page(owner), form)

    owner.refresh_from_db()
    assert (owner.first_name, owner.is_locked) == ("Olga", True)


def test_a_lock_is_noted_with_its_author_and_works_at_once(
    page: Client, api: ApiClient, owner: User, tokens: TokenPair, admin: User
) -> None:
    assert "1 user" in act(page, "lock", owner)

    owner.refresh_from_db()
    assert (owner.locked_by, owner.is_locked) == (admin.email, True)
    assert me(api, tokens) == "2005"
    assert "1 user" in act(page, "unlock", owner)
    assert me(api, issue_tokens(owner)) == "in"


def test_nobody_locks_themselves_out(above: Client, super_admin: User, owner: User) -> None:
    act(above, "lock", super_admin, owner)

    assert list(User.objects.locked()) == [owner]


def test_all_sessions_of_a_user_are_ended(
    page: Client, api: ApiClient, owner: User, tokens: TokenPair, node_operator: User
) -> None:
    others = issue_tokens(node_operator)

    assert "1 users: sessions ended" in act(page, "end_sessions", owner)
    assert (me(api, tokens), me(api, others)) == ("2003", "in")


@pytest.mark.parametrize("query", ["", "?q=owner@example.org"])
def test_a_single_token_is_revoked(page: Client, api: ApiClient, tokens: TokenPair, query: str) -> None:
    row = IssuedToken.objects.get(kind="access")

    assert "1 tokens revoked" in act(page, "revoke", row, model="issuedtoken", query=query)
    assert me(api, tokens) == "2003"
    assert api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).status_code == 200


def test_who_changed_what_is_kept(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, first_name="Olga"))

    assert "First name" in page.get(f"/admin/accounts/user/{owner.pk}/history/").content.decode()


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "{{ 7 }}"])
def test_what_users_call_themselves_is_shown_as_text(page: Client, owner: User, text: str) -> None:
    User.objects.filter(pk=owner.pk).update(first_name=text)

    assert "<script>alert" not in page.get(user_page(owner)).content.decode()


def test_an_operator_changes_their_own_password(page: Client, admin: User) -> None:
    data = {"old_password": PASSWORD, "new_password1": "weak", "new_password2": "weak"}
    assert "too short" in page.post("/admin/password_change/", data).content.decode()

    data |= {"new_password1": "Better-Horse-8", "new_password2": "Better-Horse-8"}
    assert page.post("/admin/password_change/", data).status_code == 302
    admin.refresh_from_db()
    assert admin.check_password("Better-Horse-8")


def test_the_pages_are_not_kept_or_framed(page: Client) -> None:
    response = page.get("/admin/")

    assert response["X-Frame-Options"] == "DENY"
    assert "no-store" in response["Cache-Control"]
