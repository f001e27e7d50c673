"""The page "What would happen?" in a real browser, on a phone too, and in both themes."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.browser import complaints, screen, sign_in
from testing.gateway import Gateway, running_gateway

PASSWORD = "Correct-Horse-7"
MAKE = f"""
from django.contrib.auth.hashers import make_password
from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.users.locks import lock_user

staff = User.objects.create(
    email="asker@lucid.test", username="asker", role="admin", password=make_password({PASSWORD!r}))
user = User.objects.create(email="m" * 60 + "@" + "x" * 60 + ".lucid.test", username="u" * 50, role="user")
create_api_key(user, name="indexer", permissions=["blockchain:read"])
lock_user(user, reason="r" * 200, by=staff)
"""
LONG = "m" * 60 + "@" + "x" * 60 + ".lucid.test"


@pytest.fixture(scope="module")
def asked_gateway() -> Iterator[Gateway]:
    """A gateway with a locked user and an API key."""
    with running_gateway() as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield gateway


@pytest.fixture(scope="module")
def cookies(browser: Browser, asked_gateway: Gateway) -> StorageState:
    return sign_in(browser, f"http://127.0.0.1:{asked_gateway.port}", "asker@lucid.test", PASSWORD)


@pytest.fixture(params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def operator(
    browser: Browser, asked_gateway: Gateway, cookies: StorageState, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """A window of an operator who has signed in, of each width and in each theme."""
    width, theme = request.param
    options: dict[str, Any] = {"storage_state": cookies, "color_scheme": theme, **screen(width)}
    with browser.new_page(base_url=f"http://127.0.0.1:{asked_gateway.port}", **options) as page:
        page.goto("/admin/preview/")
        yield page


def ask(page: Page, **fields: str) -> None:
    """Fill the form in, and send it."""
    for label, text in fields.items():
        page.get_by_role("main").get_by_label(label.replace("_", " ")).fill(text)
    page.get_by_role("button", name="Show what would happen").click()


def fits(page: Page) -> bool:
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width <= 0


def test_an_operator_finds_out_why_a_user_is_refused_and_gets_to_the_remedy(operator: Page) -> None:
    ask(operator, User=LONG, Client_address="2001:db8:1111:2222:3333:4444:5555:6666", Path="/api/v1/users/me")

    expect(operator.get_by_role("status")).to_contain_text("asker@lucid.test locked it")
    expect(operator.locator(".steps li")).to_have_count(7)
    expect(operator.locator(".steps li.no")).to_contain_text("staff have locked the account")
    assert fits(operator)
    operator.get_by_role("button", name="Unlock the account…").click()
    expect(operator.locator("h1")).to_contain_text("Unlock users")
    operator.get_by_role("link", name="Cancel").click()
    expect(operator.get_by_role("status")).to_contain_text("It would be refused with 401")
    assert complaints(operator) == []


def test_a_key_that_was_pasted_is_named_and_not_shown(operator: Page) -> None:
    field = operator.get_by_role("main").get_by_label("API key")
    field.fill("lk_abcdefghijkl_" + "S" * 43)
    expect(field).to_have_value("lk_abcdefghijkl")
    ask(operator, API_key="lk_abcdefghijkl_" + "S" * 43, Path="/api/v1/chain/blocks/" + "y" * 300)
    expect(operator.locator(".errorlist")).to_have_text("No API key has this name or id.")
    assert "SSSS" not in operator.content()

    ask(operator, API_key="indexer")

    expect(operator.get_by_role("status")).to_contain_text("It would be refused with 401")
    assert fits(operator)
    assert complaints(operator) == []
