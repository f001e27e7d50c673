"""The operator pages for users: the list, and a user's page."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.conftest import NOTICE, mail_about
from accounts.tests.operators import actors_of, me, user_page
from accounts.tokens.issuing import TokenPair
from accounts.users.locks import lock_user
from accounts.users.profile import delete_account
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from testing.mail import Mailbox

LIST = "/admin/accounts/user/"
CONFIRMED = {"_confirmed": "yes", "reason": "The owner asked for it"}


def form_of(client: Client, user: User, **changes: str) -> dict[str, str]:
    """Return the form data of the user's page, with some fields changed."""
    form = client.get(user_page(user)).context["adminform"].form
    return {name: str(form.initial[name]) for name in form.fields if form.initial[name] not in (None, False)} | changes


def test_users_are_searched_and_filtered(page: Client, owner: User) -> None:
    found = {
        "?q=OWNER": ["owner"], "?q=nobody": [], "?role__exact=admin": ["admin"], "?is_active__exact=0": [],
        "?q=example&role__exact=user": ["owner"], "?email_verified__exact=0&o=2": ["admin", "owner"],
    }  # fmt: skip
    names = lambda query: [row.username for row in page.get(LIST + query).context["cl"].result_list]  # noqa: E731

    assert {query: names(query) for query in found} == found


def test_an_admin_can_edit_the_names_of_a_user(page: Client, owner: User) -> None:
    response = page.post(user_page(owner), form_of(page, owner, first_name="Olga"))

    assert response.status_code == 302
    owner.refresh_from_db()
    assert owner.first_name == "Olga"


def test_an_edited_email_is_stored_in_lower_case(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, email="New@Example.ORG") | CONFIRMED)

    owner.refresh_from_db()
    assert owner.email == "new@example.org"


def test_a_new_email_asks_first_and_needs_a_reason(page: Client, owner: User) -> None:
    form = form_of(page, owner, email="new@example.org", first_name="Olga")
    for sent in (form, form | {"_confirmed": "yes", "reason": " "}):
        asked = page.post(user_page(owner), sent)
        assert (asked.status_code, asked.context["title"]) == (200, "Change the email of owner@example.org")
        owner.refresh_from_db()
        assert (owner.email, owner.first_name) == ("owner@example.org", "")

    page.post(user_page(owner), dict(asked.context["carried"]) | CONFIRMED)

    owner.refresh_from_db()
    assert (owner.email, owner.first_name) == ("new@example.org", "Olga")
    assert AuditEvent.objects.get(type="user.updated").details["reason"] == "The owner asked for it"


def test_a_new_role_on_a_users_page_asks_first(super_admin_page: Client, owner: User) -> None:
    asked = super_admin_page.post(user_page(owner), form_of(super_admin_page, owner, role="admin"))

    assert (asked.status_code, asked.context["dangerous"]) == (200, True)
    owner.refresh_from_db()
    assert owner.role == "user"


def test_an_invalid_form_shows_its_errors_before_it_asks(page: Client, owner: User) -> None:
    response = page.post(user_page(owner), form_of(page, owner, email="new@example.org", username="No Such Name"))

    assert "adminform" in response.context


@pytest.mark.parametrize(("field", "taken"), [("email", "ADMIN@Example.org"), ("username", "admin")])
def test_a_taken_email_or_username_is_an_error_message(page: Client, owner: User, field: str, taken: str) -> None:
    response = page.post(user_page(owner), form_of(page, owner, **{field: taken}))

    assert response.status_code == 200
    assert "already exists" in response.content.decode()


def test_an_admin_cannot_change_roles(page: Client, owner: User) -> None:
    form = form_of(page, owner)
    assert not {"role", "is_active"} & set(form)

    page.post(user_page(owner), form | {"role": "super_admin"})

    owner.refresh_from_db()
    assert (owner.role, owner.is_active) == ("user", True)


def test_an_admin_cannot_change_other_staff(page: Client, super_admin: User, admin: User) -> None:
    colleague = make_user("colleague", Role.ADMIN)

    for other in (super_admin, colleague):
        response = page.post(user_page(other), {"email": "mine@example.org", "username": "mine"})
        assert response.status_code == 403
        other.refresh_from_db()
        assert other.email != "mine@example.org"
    assert page.get(user_page(super_admin)).status_code == 200


def test_a_super_admin_changes_roles_and_the_old_tokens_end(
    super_admin_page: Client, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    form = form_of(super_admin_page, owner, role="node_operator") | CONFIRMED
    assert super_admin_page.post(user_page(owner), form).status_code == 302

    owner.refresh_from_db()
    assert owner.role == "node_operator"
    assert me(api, tokens) == "2003"
    assert error_code(api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh})) == "2010"


def test_a_deactivation_ends_the_tokens(
    super_admin_page: Client, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    form = form_of(super_admin_page, owner) | CONFIRMED
    del form["is_active"]
    super_admin_page.post(user_page(owner), form)

    owner.refresh_from_db()
    assert owner.is_active is False
    assert me(api, tokens) == "2003"


def test_other_changes_do_not_end_the_tokens(
    super_admin_page: Client, api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    super_admin_page.post(user_page(owner), form_of(super_admin_page, owner, last_name="Owner"))

    assert me(api, tokens) == "in"


def test_staff_cannot_change_their_own_role(super_admin_page: Client, super_admin: User) -> None:
    form = form_of(super_admin_page, super_admin)
    assert not {"role", "is_active"} & set(form)

    super_admin_page.post(user_page(super_admin), form | {"role": "user"})

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


def test_the_history_names_the_operator_and_the_change(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, first_name="Olga"))

    assert "First name" in page.get(f"/admin/accounts/user/{owner.pk}/history/").content.decode()


def test_a_users_page_links_to_everything_of_the_user(page: Client, owner: User) -> None:
    text = page.get(user_page(owner)).content.decode()

    for model in ("signin", "issuedtoken", "apikey"):
        assert f"/admin/accounts/{model}/?user__user_id__exact={owner.pk}" in text
    for model in ("session", "manifest", "trustpolicy"):
        address = f"/admin/sessions_api/{model}/?user__user_id__exact={owner.pk}"
        assert address in text
        assert page.get(address).status_code == 200
    assert f"/admin/audit/auditevent/?q={owner.pk}" in text


def test_locked_users_are_listed(page: Client, owner: User) -> None:
    lock_user(owner, reason="", by="")
    listed = lambda choice: page.get(f"{LIST}?locked={choice}").context["cl"].result_list  # noqa: E731

    assert [row.username for choice in ("yes", "no") for row in listed(choice)] == ["owner", "admin"]


def test_an_expired_lock_is_not_shown(page: Client, owner: User) -> None:
    lock_user(owner, reason="", by="", until=timezone.now() - timedelta(seconds=1))

    assert page.get("/admin/accounts/user/?locked=yes").context["cl"].result_count == 0
    assert "no end set" not in page.get(user_page(owner)).content.decode()


def test_a_lock_without_an_end_says_so(page: Client, owner: User) -> None:
    lock_user(owner, reason="Lost laptop", by="")

    assert "no end set" in page.get("/admin/accounts/user/").content.decode()
    shown = page.get(user_page(owner)).content.decode()
    assert "no end set" in shown
    assert "Lost laptop" in shown
    assert "9999" not in shown


def test_the_end_of_a_lock_is_shown_to_the_second(page: Client, owner: User) -> None:
    lock_user(owner, reason="", by="", until=datetime(2126, 1, 2, 3, 4, 5, tzinfo=UTC))

    assert "2126-01-02 03:04:05" in page.get(user_page(owner)).content.decode()


def test_a_user_can_be_found_by_the_id_in_the_audit_log(page: Client, owner: User) -> None:
    rows = page.get(f"/admin/accounts/user/?q={owner.pk}").context["cl"].result_list

    assert list(rows) == [owner]


def test_the_links_on_a_users_page_select_rows_of_the_user(page: Client, owner: User, tokens: TokenPair) -> None:
    links = re.findall(r'href="(/admin/(?:accounts|audit)/\w+/\?[^"]+)"', page.get(user_page(owner)).content.decode())
    found = {link.split("/")[3]: page.get(link).context["cl"].result_count for link in links}

    assert found == {"auditevent": 0, "signin": 1, "issuedtoken": 2, "apikey": 0}


def test_an_edit_is_recorded_with_the_operator(page: Client, admin: User, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, first_name="Olga", last_name="Owner"))

    assert actors_of("user.updated") == [(str(admin.pk), str(owner.pk))]
    assert AuditEvent.objects.get(type="user.updated").details == {
        "fields": ["first_name", "last_name"], "changes": {"first_name": ["", "Olga"], "last_name": ["", "Owner"]},
    }  # fmt: skip


def test_a_new_role_is_recorded_with_the_operator(super_admin_page: Client, super_admin: User, owner: User) -> None:
    super_admin_page.post(user_page(owner), form_of(super_admin_page, owner, role="admin") | CONFIRMED)

    assert actors_of("user.role_changed") == [(str(super_admin.pk), str(owner.pk))]
    assert actors_of("user.updated") == []


def test_a_new_email_is_unverified_and_the_old_address_is_notified(page: Client, owner: User, mailbox: Mailbox) -> None:
    User.objects.filter(pk=owner.pk).update(email_verified=True)
    page.post(user_page(owner), form_of(page, owner, email="new@example.org") | CONFIRMED)

    owner.refresh_from_db()
    assert (owner.email, owner.email_verified) == ("new@example.org", False)
    assert "is now new@example.org" in mail_about(mailbox, NOTICE, "owner@example.org")


def test_a_page_with_an_error_saves_nothing(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, first_name="Olga", username="No Such Name"))

    owner.refresh_from_db()
    assert (owner.first_name, owner.username) == ("", "owner")


def test_a_deleted_account_cannot_be_edited(super_admin_page: Client, owner: User) -> None:
    form = form_of(super_admin_page, owner, first_name="Olga")
    delete_account(owner)

    assert super_admin_page.post(user_page(owner), form).status_code == 403
    assert super_admin_page.get(user_page(owner)).status_code == 200
    owner.refresh_from_db()
    assert (owner.first_name, owner.is_active) == ("", False)


def test_the_history_contains_no_email_of_a_deleted_user(page: Client, owner: User) -> None:
    page.post(user_page(owner), form_of(page, owner, first_name="Olga"), follow=True)
    delete_account(owner)

    assert LogEntry.objects.filter(object_repr__contains="owner").count() == 0
    assert "owner@example.org" not in page.get("/admin/").content.decode()


def test_an_edit_does_not_undo_a_deletion_made_meanwhile(
    page: Client, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = form_of(page, owner, first_name="Olga")
    clean = User.clean

    def delete_meanwhile(user: User) -> None:
        delete_account(User.objects.get(pk=user.pk))
        clean(user)

    monkeypatch.setattr(User, "clean", delete_meanwhile)
    assert page.post(user_page(owner), form).status_code == 403

    assert User.objects.get(pk=owner.pk).first_name == ""
