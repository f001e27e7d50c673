"""The pages behind mailed links, in a real browser: loading one does nothing, its button does."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
import requests
from playwright.sync_api import Page, expect

from accounts.tests.conftest import WALLET_ADDRESS, signature_of
from testing.browser import complaints, noted_requests
from testing.gateway import Gateway
from testing.waiting import wait_until

USER = "demo@lucid.test"
PASSWORD = "Correct-Horse-7"


@dataclass(frozen=True)
class Site:
    """The gateway as its users see it: its API, its pages, and its mails, which are in its log."""

    gateway: Gateway

    def call(self, method: str, path: str, token: str = "", /, **data: Any) -> tuple[int, Any]:
        """Call the API; return status and body."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with requests.request(method, self.gateway.url + path, headers=headers, json=data, timeout=20) as response:
            return response.status_code, response.json()

    def mailed(self, page: str, ask: Callable[[], tuple[int, Any]]) -> str:
        """Ask for a mail; return its link."""
        read = self.gateway.log.stat().st_size
        assert ask()[0] == 200
        link = re.compile(rf"http://\S+/{page}#(\S+)\s".encode())
        found = wait_until(lambda: link.search(self.gateway.log.read_bytes(), read))
        return f"{self.address(page)}#{found[1].decode()}"

    def address(self, page: str) -> str:
        """Return the address of a page; the gateway is configured with another public address."""
        return f"http://127.0.0.1:{self.gateway.port}/{page}"

    def login_link(self, email: str = USER) -> str:
        """Start a login; return its link."""
        return self.mailed("login", lambda: self.call("POST", "/auth/login", email=email))

    def log_in(self, link: str) -> str:
        """Return the access token that the link of a login gives, empty if it gives none."""
        proof = {name: values[0] for name, values in parse_qs(urlsplit(link).fragment).items()}
        return str(self.call("POST", "/auth/verify", **proof)[1].get("access_token", ""))

    def profile(self, token: str) -> tuple[int, str]:
        """Return the status of a request with the token, and the user."""
        status, body = self.call("GET", "/users/me", token)
        return status, body.get("email", "")


@pytest.fixture(scope="module")
def site(gateway: Gateway) -> Site:
    """The running gateway."""
    return Site(gateway)


def done(tab: Page) -> str:
    """Return the access token that the page shows in the end."""
    expect(tab.get_by_role("status")).to_be_visible()
    return tab.get_by_label("Access token").input_value()


def test_loading_the_page_logs_nobody_in(tab: Page, site: Site) -> None:
    link = site.login_link()
    sent = noted_requests(tab)
    tab.goto(link)
    expect(tab.locator("#form")).to_be_visible()
    expect(tab.locator("#form")).to_contain_text(USER)

    assert {request.method for request in sent} == {"GET"}
    assert site.log_in(link)


def test_the_button_logs_in(tab: Page, site: Site) -> None:
    link = site.login_link()
    sent = noted_requests(tab)
    tab.goto(link)
    tab.get_by_role("button").click()
    assert site.profile(done(tab)) == (200, USER)

    expect(tab.locator("#form")).to_be_hidden()
    assert tab.url == site.address("login")
    assert complaints(tab) == []
    requested = [f"{request.method} {request.url.partition('#')[0]}" for request in sent]

    secret = parse_qs(urlsplit(link).fragment)["token"][0]
    assert f"POST {site.gateway.url}/auth/verify" in requested
    assert not [line for line in (*requested, *map(str, site.gateway.access_lines())) if secret in line]
    assert not site.log_in(link)


def test_a_used_link_shows_an_error(tab: Page, site: Site) -> None:
    link = site.login_link()
    assert site.log_in(link)
    tab.goto(link)
    tab.get_by_role("button").click()

    expect(tab.get_by_role("alert")).to_have_text(re.compile("^This link has expired or was already used"))
    expect(tab.locator("#form")).to_be_hidden()


def test_another_link_in_the_same_tab_replaces_the_first(tab: Page, site: Site) -> None:
    """Only the fragment changes, so that the browser does not load the page again."""
    tab.goto(site.address("login"))
    expect(tab.get_by_role("alert")).to_have_text(re.compile("^This link is incomplete"))
    tab.goto(site.login_link())
    tab.get_by_role("button").click()

    assert site.profile(done(tab)) == (200, USER)


def test_an_account_with_totp_must_enter_its_code(tab: Page, site: Site) -> None:
    email, secret = account_with_totp(site)
    tab.goto(site.login_link(email))
    tab.get_by_role("button").click()
    expect(tab.get_by_role("alert")).to_have_text("Your account requires a second factor.")
    code = tab.locator("[name=totp]")
    expect(code).to_be_visible()
    expect(tab.locator("[name=recovery_code]")).to_be_visible()
    expect(tab.locator("[name=signature]")).to_be_hidden()

    code.fill("000000")
    tab.get_by_role("button").click()
    expect(tab.get_by_role("alert")).to_have_text(re.compile("^The code is wrong"))

    code.fill(pyotp.TOTP(secret).now())
    tab.get_by_role("button").click()
    assert site.profile(done(tab)) == (200, email)


def new_account(site: Site) -> str:
    """Return the email of a new account."""
    name = f"user-{time.monotonic_ns()}"
    email = f"{name}@lucid.test"
    assert site.call("POST", "/users", email=email, username=name, password=PASSWORD)[0] == 201
    return email


def account_with_totp(site: Site) -> tuple[str, str]:
    """Return the email of a new account and the secret of its authenticator app."""
    email = new_account(site)
    token = site.log_in(site.login_link(email))
    secret: str = site.call("POST", "/auth/totp", token)[1]["secret"]
    # The earlier code: each works once, and the page needs the next one.
    code = pyotp.TOTP(secret).at(int(time.time()) - 30)
    assert site.call("POST", "/auth/totp/confirm", token, totp=code)[0] == 200
    return email, secret


def test_an_account_with_a_wallet_sees_the_text_to_sign(tab: Page, site: Site) -> None:
    email = account_with_wallet(site)
    tab.goto(site.login_link(email))
    tab.get_by_role("button").click()
    signature, challenge = tab.locator("[name=signature]"), tab.locator("#challenge")
    expect(signature).to_be_visible()
    expect(tab.locator("[name=totp]")).to_be_hidden()
    expect(challenge).not_to_have_value("")

    signature.fill(signature_of("something else"))
    tab.get_by_role("button").click()
    expect(tab.get_by_role("alert")).to_have_class("problem")

    signature.fill(signature_of(challenge.input_value()))
    tab.get_by_role("button").click()
    assert site.profile(done(tab)) == (200, email)


def account_with_wallet(site: Site) -> str:
    """Return the email of a new account with a registered wallet."""
    email = new_account(site)
    token = site.log_in(site.login_link(email))
    challenge = site.call("POST", "/auth/hardware-wallet", token, address=WALLET_ADDRESS)[1]["challenge"]
    confirmed, _ = site.call("POST", "/auth/hardware-wallet/confirm", token, signature=signature_of(challenge))
    assert confirmed == 200
    return email


def test_a_new_password_is_set_on_its_page(tab: Page, site: Site) -> None:
    tab.goto(site.mailed("reset-password", lambda: site.call("POST", "/auth/password/reset", email=USER)))
    tab.get_by_label("New password").fill("weakweak")
    tab.get_by_role("button").click()
    expect(tab.get_by_role("alert")).to_contain_text("upper-case letter")

    tab.get_by_label("New password").fill(PASSWORD)
    tab.get_by_role("button").click()
    expect(tab.get_by_role("status")).to_have_text("The new password is set. All earlier logins have ended.")


def test_a_new_address_is_confirmed_on_its_page(tab: Page, site: Site) -> None:
    email = new_account(site)
    token, change = site.log_in(site.login_link(email)), {"email": f"new-{email}", "current_password": PASSWORD}
    tab.goto(site.mailed("confirm-email", lambda: site.call("PATCH", "/users/me", token, **change)))
    expect(tab.locator("#form")).to_be_visible()
    assert site.profile(token) == (200, email)

    tab.get_by_role("button").click()
    expect(tab.get_by_role("status")).to_have_text("The address is confirmed. Login codes go there from now on.")
    assert site.profile(token) == (200, f"new-{email}")


@pytest.mark.parametrize("name", ["login", "reset-password", "confirm-email"])
def test_an_incomplete_link_shows_an_error(tab: Page, site: Site, name: str) -> None:
    tab.goto(site.address(name))
    expect(tab.get_by_role("alert")).to_have_text("This link is incomplete. Open it from the mail again.")
    expect(tab.get_by_role("button")).to_be_hidden()
    assert complaints(tab) == []
