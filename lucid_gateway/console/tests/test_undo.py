"""Undo: a button for ten minutes, which works once and only in the session of the operator who made the change."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.contrib.messages.storage.fallback import FallbackStorage
from django.core import signing
from django.http import HttpRequest
from django.test import Client, RequestFactory

from accounts.models import User
from accounts.tests.operators import browser, messages_of, signed_in
from lucid_gateway.operators import undo

UNDO = "/admin/undo/"


@pytest.fixture
def restored() -> Iterator[list[Any]]:
    """The states that the restorer `test` has restored."""
    states: list[Any] = []

    @undo.restores("test")
    def restore(request: HttpRequest, state: Any) -> str:
        if state == "changed":
            raise undo.CannotUndo("Somebody has changed it since.")
        states.append(state)
        return f"{state} is as before."

    yield states
    del undo.restorers["test"]


@pytest.fixture
def page(admin: User, restored: list[Any]) -> Client:
    """The browser of an admin."""
    return signed_in(admin)


def offered(client: Client, *states: Any, text: str = "Done.") -> list[str]:
    """Offer to restore the states, as an action does; return the keys of the messages' buttons."""
    request: Any = RequestFactory().get("/")
    request.session = client.session
    request._messages = FallbackStorage(request)
    for state in states:
        undo.offer(request, text, "test", state)
    request.session.save()
    return [undo.key_of(message) for message in get_messages(request)]


def press(client: Client, key: str, **fields: str) -> list[str]:
    """Press the button; return the messages on the page that follows."""
    return messages_of(client.post(UNDO, {"undo": key, "back": UNDO} | fields, follow=True))


def test_the_button_restores_the_state(page: Client, restored: list[Any]) -> None:
    (key,) = offered(page, {"rule": 1})

    assert press(page, key) == ["{'rule': 1} is as before."]
    assert restored == [{"rule": 1}]


def test_it_works_once(page: Client, restored: list[Any]) -> None:
    (key,) = offered(page, 1)
    press(page, key)

    assert press(page, key) == [undo.TOO_LATE]
    assert restored == [1]


def test_it_works_for_ten_minutes(page: Client, restored: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = offered(page, 1)
    monkeypatch.setattr(undo, "UNDO_FOR", timedelta(seconds=-1))

    assert "that can be undone here" in page.get(UNDO).content.decode()
    assert press(page, key) == [undo.TOO_LATE]
    assert restored == []


@pytest.mark.parametrize("key", ["", "unknown"])
def test_an_unknown_key_restores_nothing(page: Client, key: str) -> None:
    offered(page, 1)
    assert press(page, key) == [undo.TOO_LATE]


def test_it_works_in_no_other_session(page: Client, super_admin: User, restored: list[Any]) -> None:
    (key,) = offered(page, 1)

    assert press(signed_in(super_admin), key) == [undo.TOO_LATE]
    assert restored == []


def test_visitors_are_sent_to_the_login(db: None, restored: list[Any]) -> None:
    for response in (browser().get(UNDO), browser().post(UNDO, {"undo": "x"})):
        assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/")


def test_a_token_that_the_gateway_did_not_sign_is_ignored(page: Client, restored: list[Any]) -> None:
    (key,) = offered(page, 1)
    session = page.session
    forged = signing.dumps(["Done.", "test", 2, datetime.now(UTC).timestamp()], key="another key", salt=undo.SALT)
    session[undo.SESSION_KEY] = {key: forged}
    session.save()

    assert press(page, key) == [undo.TOO_LATE]
    assert restored == []


def test_a_refusal_says_why(page: Client, restored: list[Any]) -> None:
    (key,) = offered(page, "changed")

    assert press(page, key) == ["Somebody has changed it since."]


def test_it_returns_to_the_page_of_the_button(page: Client) -> None:
    (key,) = offered(page, 1)
    assert (
        page.post(UNDO, {"undo": key, "back": "/admin/accounts/user/?q=a"})["Location"] == "/admin/accounts/user/?q=a"
    )


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x", ""]
)
def test_it_leads_to_no_other_site(page: Client, elsewhere: str) -> None:
    assert page.post(UNDO, {"undo": "x", "back": elsewhere})["Location"] == "/admin/"


def test_the_page_lists_what_can_be_undone_the_newest_first(page: Client) -> None:
    keys = offered(page, 1, 2)

    shown = page.get(UNDO).content.decode()
    assert [shown.index(f'value="{key}"') for key in keys] == sorted(
        (shown.index(f'value="{key}"') for key in keys), reverse=True
    )


def test_the_session_keeps_the_newest_ten(page: Client, restored: list[Any]) -> None:
    keys = offered(page, *range(12))

    assert press(page, keys[1]) == [undo.TOO_LATE]
    assert press(page, keys[2]) == ["2 is as before."]


def test_texts_are_escaped(page: Client) -> None:
    offered(page, 1, text="<script>alert(1)</script>")

    shown = page.get(UNDO).content.decode()
    assert "&lt;script&gt;alert(1)" in shown
    assert "<script>alert" not in shown
