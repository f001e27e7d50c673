"""The fixture of the journeys: a real gateway with a real SMTP server, and the actions of its users."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest

from testing.gateway import Gateway, running_gateway
from testing.mail import Mailbox, running_smtp_server

STEP_SECONDS = 30  # of TOTP
PASSWORD = "Correct-Horse-7"
HOME = "192.0.2.1"


@dataclass(frozen=True)
class Service:
    """A running gateway, and the mailbox that receives all its mail."""

    gateway: Gateway
    mailbox: Mailbox

    def call(
        self, method: str, path: str, data: Any = None, token: str | None = None, address: str = HOME
    ) -> tuple[int, Any]:
        """Send one request below /api/v1 from the address; return status and JSON."""
        connection = HTTPConnection("127.0.0.1", self.gateway.port, timeout=30)
        headers = {"Content-Type": "application/json", "X-Forwarded-For": address}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, f"/api/v1{path}", json.dumps(data) if data is not None else None, headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body) if body else None

    def error(self, method: str, path: str, data: Any = None, token: str | None = None, address: str = HOME) -> str:
        """Send a request that must be refused; return status and code, such as `401 2003`."""
        status, answer = self.call(method, path, data, token, address)
        return f"{status} {answer['error']['code'][-4:]}"

    def register(self, name: str) -> str:
        """Open an account and return its email."""
        email = f"{name}@example.org"
        account = {"email": email, "username": name, "password": PASSWORD}
        assert self.call("POST", "/users", account)[0] == 201
        return email

    def mailed(self, email: str, count: int) -> dict[str, str]:
        """Start a login; return the `code` and the link's `token` from the count-th login mail to the address."""
        assert self.call("POST", "/auth/login", {"email": email})[0] == 200
        text = self.login_mail(email, count)
        code, link = re.search(r"\b[0-9]{6}\b", text), re.search(r"http\S+", text)
        assert code is not None
        assert link is not None
        return {"code": code[0], "token": parse_qs(urlsplit(link[0]).fragment)["token"][0]}

    def login_mail(self, email: str, count: int) -> str:
        """Wait for the count-th login mail to the address, and return its text."""
        return str(self.mailbox.wait_for(email, count, subject="Your Lucid login code").get_content())

    def log_in(self, email: str, count: int, first: str = "code", address: str = HOME, **second: str) -> dict[str, Any]:
        """Log in with the `code` or the `token` of the count-th login mail; return the tokens."""
        credentials = {"email": email, first: self.mailed(email, count)[first]} | second
        status, tokens = self.call("POST", "/auth/verify", credentials, address=address)
        assert status == 200, tokens
        return dict(tokens)


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A gateway on the database of this test run. It trusts the tests as proxies, which may name any client."""
    with running_smtp_server() as (mailbox, port):
        settings = {
            "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port), "TRUSTED_PROXIES": "127.0.0.1",
            "MONGODB_DATABASE": "journeys",
        }  # fmt: skip
        with running_gateway(**settings) as gateway:
            yield Service(gateway, mailbox)


def codes_of(secret: str) -> tuple[str, str, str]:
    """Return an app's codes of the previous, the current and the next step, which are all valid in this order.

    If the current step ends within ten seconds, wait for the next one.
    """
    left = STEP_SECONDS - time.time() % STEP_SECONDS
    if left < 10:
        time.sleep(left)
    now, totp = int(time.time()), pyotp.TOTP(secret)
    earlier, current, later = (totp.at(now + steps * STEP_SECONDS) for steps in (-1, 0, 1))
    return earlier, current, later
