"""A super admin adds an authenticator app at the first login, in a real browser, and confirms a dangerous action."""

from collections.abc import Iterator

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from testing.browser import complaints, screen
from testing.gateway import Gateway, running_gateway

PASSWORD = "Correct-Horse-7"
WIDTHS = (1280, 390)
MAKE = f"""
from django.contrib.auth.hashers import make_password
from accounts.models import User
for width in {WIDTHS}:
    User.objects.create(
        email=f"first-{{width}}@lucid.test", username=f"first-{{width}}", role="super_admin",
        password=make_password({PASSWORD!r}))
"""
AGE_THE_PROOFS = """
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
for row in Session.objects.all():
    session = SessionStore(row.session_key)
    session["proved_at"] = 0
    session.save()
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway whose staff must have a second factor, with a super admin without one for each width."""
    with running_gateway(STAFF_SECOND_FACTOR="required") as running:
        running.manage("shell", "--no-imports", "--command", MAKE)
        yield running


def fits(page: Page, width: int) -> bool:
    """Return whether the page needs no scrolling to the side, and has said nothing about errors."""
    return page.evaluate("document.documentElement.scrollWidth") <= width and complaints(page) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_login_adds_an_app_and_a_dangerous_action_asks_again(
    browser: Browser, gateway: Gateway, width: int
) -> None:
    with browser.new_page(base_url=f"http://127.0.0.1:{gateway.port}", **screen(width)) as page:
        page.goto("/admin/accounts/signingkey/")
        page.get_by_label("Email").fill(f"first-{width}@lucid.test")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()

        expect(page).to_have_url("/admin/second-factor/")
        page.get_by_role("button", name="Add an authenticator app").click()
        image = page.get_by_role("img", name="QR code").locator("svg").bounding_box()
        assert image is not None
        assert image["width"] == image["height"] > 150
        assert fits(page, width)
        page.get_by_label("Code of the app").fill(pyotp.TOTP(page.locator(".secret").inner_text()).now())
        page.get_by_role("button", name="Add this app").click()
        expect(page.locator(".codes li")).to_have_count(10)
        assert fits(page, width)
        page.get_by_role("link", name="I have kept them").click()
        expect(page).to_have_url("/admin/")

        gateway.manage("shell", "--no-imports", "--command", AGE_THE_PROOFS)
        page.goto("/admin/accounts/signingkey/rotate/")
        page.get_by_label("Your password").fill("Wrong-Horse-7")
        page.get_by_role("button", name="Rotate the signing keys").click()
        expect(page.get_by_text("The password or code is wrong.")).to_be_visible()
        assert fits(page, width)
        page.get_by_label("Your password").fill(PASSWORD)
        page.get_by_role("button", name="Rotate the signing keys").click()
        expect(page.get_by_text("signs now").or_(page.get_by_text("is rotating the keys"))).to_be_visible()
