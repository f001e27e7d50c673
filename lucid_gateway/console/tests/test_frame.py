"""The frame around all operator pages, and what their lists have in common."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import browser, messages_of, signed_in

USERS = "/admin/accounts/user/"


@pytest.fixture
def page(admin: User) -> Client:
    """A browser with a session of an admin."""
    return signed_in(admin)


def text(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def current(response: Any) -> list[str]:
    """Return the names of the menu's items that are marked as the current page."""
    return [item.name for group in response.context["menu"] for item in group.items if item.current]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/admin/", "Overview"), (USERS, "Users"), ("/admin/audit/auditevent/", "Audit log"),
        ("/admin/password_change/", None),
    ],
)  # fmt: skip
def test_the_menu_marks_the_current_page(page: Client, path: str, name: str | None) -> None:
    assert current(page.get(path)) == ([name] if name else [])


def test_the_page_of_a_row_belongs_to_its_list(page: Client, owner: User) -> None:
    assert current(page.get(f"{USERS}{owner.pk}/change/")) == ["Users"]


def test_the_strip_says_how_what_the_gateway_uses_is(page: Client) -> None:
    names = [item.name for item in page.get(USERS).context["strip"]]
    assert {"Redis", "Database"} <= set(names)


def test_visitors_see_no_menu(db: None) -> None:
    shown = text(browser().get("/admin/login/"))
    assert 'id="menu"' not in shown
    assert "Log in" in shown


def test_the_search_field_is_the_first_stop_of_the_tab_key(page: Client) -> None:
    body = text(page.get(USERS)).partition("<body")[2]
    first = min(body.index(tag) for tag in ("<a ", '<input type="search', "<button", "<summary") if tag in body)
    assert body[first:].startswith('<input type="search" name="q" value="" id="searchbar"')


def test_active_filters_are_chips_that_remove_themselves(page: Client) -> None:
    shown = text(page.get(f"{USERS}?role__exact=admin&q=example"))
    assert 'href="?q=example" title="Remove this filter">Role: <b>Admin</b>' in shown
    assert 'href="?role__exact=admin" title="Remove this search">“example”' in shown


def test_a_list_without_matches_says_so(page: Client) -> None:
    assert "Nothing matches this search and these filters." in text(page.get(f"{USERS}?q=nobody-has-this-name"))


def test_a_button_of_a_row_runs_the_action_on_that_row_alone(page: Client, owner: User, node_operator: User) -> None:
    asked = page.post(USERS, {"row_action": f"lock {owner.pk}"})
    assert f'name="_selected_action" value="{owner.pk}"' in text(asked)
    assert str(node_operator.pk) not in text(asked)

    data = {"action": "lock", "_selected_action": str(owner.pk), "_confirmed": "yes", "reason": "why"}
    assert messages_of(page.post(USERS, data, follow=True)) == ["1 user: locked."]
    assert f'value="unlock {owner.pk}"' in text(page.get(USERS))
    assert f'value="lock {owner.pk}"' not in text(page.get(USERS))


@pytest.mark.parametrize("value", ["delete_accounts {}", "no_such_action {}", "lock", "lock nobody", ""])
def test_an_unknown_button_does_nothing(page: Client, owner: User, value: str) -> None:
    assert page.post(USERS, {"row_action": value.format(owner.pk)}).status_code in (200, 302)
    owner.refresh_from_db()
    assert (owner.is_locked, owner.deleted_at) == (False, None)


ADD_RULE = "/admin/ratelimit/addressrule/add/"


def test_the_summary_of_a_form_with_errors_links_to_its_fields(page: Client) -> None:
    shown = text(page.post(ADD_RULE, {"kind": "deny"}))
    assert '<a href="#id_network">Network</a>, <a href="#id_reason">Reason</a>' in shown
    assert 'id="id_network_error"' in shown


def test_a_group_of_choices_has_a_legend_and_each_choice_a_label(page: Client) -> None:
    shown = text(page.get(ADD_RULE))
    group = shown.partition('<fieldset class="form-row choices')[2].partition("</fieldset>")[0]
    assert "<legend>Lasts</legend>" in group
    assert group.count("<label") == group.count('type="radio"') == 5
