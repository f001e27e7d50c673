"""After an action that began on another page, the operator returns there."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import choose, user_page

LIST = "/admin/accounts/user/"
ELSEWHERE = ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "evil", ""]


def run(client: Client, owner: User, back: str, **form: str) -> Any:
    """Press a button that starts an action; return the answer without following it."""
    data = {"action": "unlock", "_selected_action": str(owner.pk), "back": back} | form
    return client.post(LIST, data)


def test_the_page_that_asks_leads_back(page: Client, owner: User) -> None:
    asked = run(page, owner, user_page(owner)).content.decode()

    assert f'<input type="hidden" name="back" value="{user_page(owner)}">' in asked
    assert f'<a href="{user_page(owner)}" class="button">Cancel</a>' in asked


def test_the_operator_returns_after_the_action(page: Client, owner: User) -> None:
    assert run(page, owner, user_page(owner), _confirmed="yes")["Location"] == user_page(owner)


@pytest.mark.parametrize("back", ELSEWHERE)
def test_no_form_leads_to_another_site(page: Client, owner: User, back: str) -> None:
    assert f'<a href="{LIST}" class="button">Cancel</a>' in run(page, owner, back).content.decode()
    assert run(page, owner, back, _confirmed="yes")["Location"] == LIST


def test_without_a_page_the_action_leads_to_the_list(page: Client, owner: User) -> None:
    assert choose(page, "unlock", owner, _confirmed="yes").request["PATH_INFO"] == LIST
