"""The pages behind mailed links, in a real browser: loading one does nothing, its button does."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
import requests

from accounts.tests.conftest import WALLET_ADDRESS, signature_of
from testing.chromium import Chromium, Tab, running_chromium
from testing.gateway import Gateway

USER = "demo@lucid.test"
PASSWORD = "Correct-Horse-7"
PAGES = ("login", "reset-password", "confirm-email")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """The browser; the tests are skipped where there is none."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    with running_chromium(binary) as running:
        yield running


@dataclass(frozen=True)
class Site:
    """The gateway as its users know it: its API, its pages, and its mails, which are in its log."""

    gateway: Gateway

    def call(self, method: str, path: str, token: str = "", /, **data: Any) -> tuple[int, Any]:
        """Return status and body of a call of the API."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with requests.request(method, self.gateway.url + path, headers=headers, json=data, timeout=20) as response:
            return response.status_code, response.json()

    def mailed(self, page: str, ask: Callable[[], tuple[int, Any]]) -> str:
        """Ask for a mail; return the link to the page that comes."""
        read = self.gateway.log.stat().st_size
        assert ask()[0] == 200
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            log = self.gateway.log.read_bytes()[read:].decode(errors="replace")
            if found := re.search(rf"http://\S+/{page}#(\S+)\s", log):
                return f"{self.address(page)}#{found[1]}"
            time.sleep(0.02)
        raise AssertionError("no mail")

    def address(self, page: str) -> str:
        """Return the address of a page; the gateway itself believes to be somewhere else."""
        return f"http://127.0.0.1:{self.gateway.port}/{page}"

    def login_link(self, email: str = USER) -> str:
        """Return the link of a login that was just asked for."""
        return self.mailed("login", lambda: self.call("POST", "/auth/login", email=email))

    def log_in(self, link: str) -> str:
        """Return the access token that the link of a login gives; an empty text if it gives none."""
        proof = {name: values[0] for name, values in parse_qs(urlsplit(link).fragment).items()}
        return str(self.call("POST", "/auth/verify", **proof)[1].get("access_token", ""))

    def profile(self, token: str) -> tuple[int, str]:
        """Return the status of a request with the token, and whose it is."""
        status, body = self.call("GET", "/users/me", token)
        return status, body.get("email", "")


@pytest.fixture(scope="module")
def site(gateway: Gateway) -> Site:
    """The running gateway."""
    return Site(gateway)


def done(tab: Tab) -> str:
    """Return the access token that the page shows in the end."""
    tab.wait_for("#done")
    return str(tab.value("document.getElementById('access_token').value"))


def test_loading_the_page_logs_nobody_in(chromium: Chromium, site: Site) -> None:
    link = site.login_link()
    with chromium.tab(link) as tab:
        assert USER in tab.wait_for("#form")
        assert {request.partition(" ")[0] for request in tab.requests()} == {"GET"}

    assert site.log_in(link)


def test_the_button_logs_in(chromium: Chromium, site: Site) -> None:
    link = site.login_link()
    with chromium.tab(link) as tab:
        tab.press("button")
        assert site.profile(done(tab)) == (200, USER)

        assert not tab.sees("#form")
        assert tab.value("location.href") == site.address("login")
        assert tab.complaints() == []
        sent = [request.partition("#")[0] for request in tab.requests()]

    secret = parse_qs(urlsplit(link).fragment)["token"][0]
    assert f"POST {site.gateway.url}/auth/verify" in sent
    assert not [request for request in (*sent, *map(str, site.gateway.access_lines())) if secret in request]
    assert not site.log_in(link)


def test_a_used_link_says_so(chromium: Chromium, site: Site) -> None:
    link = site.login_link()
    assert site.log_in(link)
    with chromium.tab(link) as tab:
        tab.press("button")

        assert tab.wait_for("#problem").startswith("This link works no more")
        assert not tab.sees("#form")


def test_another_link_in_the_same_tab_is_the_one_that_counts(chromium: Chromium, site: Site) -> None:
    """Only the fragment changes: a browser does not load the page again for that."""
    with chromium.tab(site.address("login")) as tab:
        assert tab.wait_for("#problem").startswith("This link is not complete")
        tab.go(site.login_link())
        tab.press("button")

        assert site.profile(done(tab)) == (200, USER)


def test_an_account_with_totp_is_asked_for_its_code(chromium: Chromium, site: Site) -> None:
    email, secret = account_with_totp(site)
    with chromium.tab(site.login_link(email)) as tab:
        tab.press("button")
        assert tab.wait_for("#problem") == "Your account asks for a second factor."
        assert (tab.sees("[name=totp]"), tab.sees("[name=recovery_code]"), tab.sees("[name=signature]")) == (
            True, True, False,
        )  # fmt: skip

        tab.type("[name=totp]", "000000")
        tab.press("button")
        tab.wait_until("document.getElementById('problem').innerText.startsWith('The code is wrong')")

        tab.type("[name=totp]", pyotp.TOTP(secret).now())
        tab.press("button")
        assert site.profile(done(tab)) == (200, email)


def new_account(site: Site) -> str:
    """Return the email of an account that was just opened."""
    name = f"user-{time.monotonic_ns()}"
    email = f"{name}@lucid.test"
    assert site.call("POST", "/users", email=email, username=name, password=PASSWORD)[0] == 201
    return email


def account_with_totp(site: Site) -> tuple[str, str]:
    """Return the email of a new account and the secret of its authenticator app."""
    email = new_account(site)
    token = site.log_in(site.login_link(email))
    secret: str = site.call("POST", "/auth/totp", token)[1]["secret"]
    # The code before: each works once, and the page asks for the next.
    code = pyotp.TOTP(secret).at(int(time.time()) - 30)
    assert site.call("POST", "/auth/totp/confirm", token, totp=code)[0] == 200
    return email, secret


def test_an_account_with_a_wallet_is_shown_what_to_sign(chromium: Chromium, site: Site) -> None:
    email = account_with_wallet(site)
    with chromium.tab(site.login_link(email)) as tab:
        tab.press("button")
        tab.wait_for("[name=signature]")
        assert not tab.sees("[name=totp]")
        challenge = tab.wait_until("document.getElementById('challenge').value")

        tab.type("[name=signature]", signature_of("something else"))
        tab.press("button")
        tab.wait_until("document.getElementById('problem').className === 'problem'")

        tab.type("[name=signature]", signature_of(challenge))
        tab.press("button")
        assert site.profile(done(tab)) == (200, email)


def account_with_wallet(site: Site) -> str:
    """Return the email of a new account with a registered wallet."""
    email = new_account(site)
    token = site.log_in(site.login_link(email))
    challenge = site.call("POST", "/auth/hardware-wallet", token, address=WALLET_ADDRESS)[1]["challenge"]
    confirmed, _ = site.call("POST", "/auth/hardware-wallet/confirm", token, signature=signature_of(challenge))
    assert confirmed == 200
    return email


def test_a_new_password_is_set_on_its_page(chromium: Chromium, site: Site) -> None:
    link = site.mailed("reset-password", lambda: site.call("POST", "/auth/password/reset", email=USER))
    with chromium.tab(link) as tab:
        tab.type("[name=password]", "weakweak")
        tab.press("button")
        assert "upper-case letter" in tab.wait_for("#problem")

        tab.type("[name=password]", PASSWORD)
        tab.press("button")
        assert tab.wait_for("#done") == "The password was set. All earlier logins have ended."


def test_a_new_address_is_confirmed_on_its_page(chromium: Chromium, site: Site) -> None:
    email = new_account(site)
    token, change = site.log_in(site.login_link(email)), {"email": f"new-{email}", "current_password": PASSWORD}
    link = site.mailed("confirm-email", lambda: site.call("PATCH", "/users/me", token, **change))
    with chromium.tab(link) as tab:
        tab.wait_for("#form")
        assert site.profile(token) == (200, email)

        tab.press("button")
        assert tab.wait_for("#done").startswith("The address is confirmed")
    assert site.profile(token) == (200, f"new-{email}")


def test_an_incomplete_link_says_so(chromium: Chromium, site: Site) -> None:
    for page in PAGES:
        with chromium.tab(site.address(page)) as tab:
            assert tab.wait_for("#problem") == "This link is not complete. Open it from the mail again."
            assert not tab.sees("button")
            assert tab.complaints() == []
