"""Fixtures of the account tests: a real mail server, a started login with its code, and second factors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyotp
import pytest
from coincurve import PrivateKey
from django.test import Client
from pytest_django import Settings

from accounts import mail
from accounts.factors import hardware_wallet, totp
from accounts.factors.tron_message import digest
from accounts.lockouts import LockoutSubject
from accounts.models import User
from accounts.tests.operators import signed_in
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient
from lucid_gateway.kernel.redis.access import redis_client
from testing.mail import Mailbox, running_smtp_server
from testing.waiting import wait_until

# The subjects of the mails.
LOGIN, RESET, NOTICE = "Your Lucid login code", "Set a new Lucid password", "Your Lucid account"
# A key and its address, computed by another implementation (test_tron_message.py).
WALLET_KEY = "8f2a559490d6e1b03c77a4fd19c6e258b1740e63a95dd28f6b3e04c7912ba85f"
WALLET_ADDRESS = "TYy2eZe59pBHRNbNt2vq7aGijuE7wjUdSf"


@pytest.fixture(scope="session")
def smtp_server() -> Iterator[tuple[Mailbox, int]]:
    """A mail server for the whole run, and its port."""
    with running_smtp_server() as server:
        yield server


def wait_for_senders() -> None:
    """Wait until every mail was sent."""
    wait_until(lambda: mail.waiting._value == mail.waiting._initial_value)  # type: ignore[attr-defined]


@pytest.fixture(scope="session", autouse=True)
def last_mails() -> Iterator[None]:
    """The run ends after its last mail was sent."""
    yield
    wait_for_senders()


@pytest.fixture
def mailbox(smtp_server: tuple[Mailbox, int], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The server's mailbox, empty; the gateway's mails go there, without their usual delay."""
    wait_for_senders()
    monkeypatch.setattr(mail, "RETRY_DELAYS_SECONDS", (0.0, *mail.RETRY_DELAYS_SECONDS[1:]))
    mailbox, port = smtp_server
    mailbox.mails.clear()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    return mailbox


def mail_about(mailbox: Mailbox, subject: str, address: str, count: int = 1) -> str:
    """Return the text of the count-th mail about the subject to the address; raise AssertionError without one."""
    return str(mailbox.wait_for(address, count, subject=subject).get_content())


def notices_to(mailbox: Mailbox, address: str) -> str:
    """Return the texts of all notices to the address, after every mail was sent."""
    wait_for_senders()
    found = [mail for mail in mailbox.mails if (mail["To"], mail["Subject"]) == (address, NOTICE)]
    return "\n".join(str(mail.get_content()) for mail in found)


def code_in(mailbox: Mailbox, address: str, count: int = 1) -> str:
    """Return the code of the count-th login mail to the address."""
    found = re.search(r"\b[0-9]{6}\b", mail_about(mailbox, LOGIN, address, count))
    assert found is not None
    return found[0]


def link_in(mailbox: Mailbox, address: str, count: int = 1, subject: str = LOGIN) -> str:
    """Return the link of the count-th mail with the subject to the address."""
    found = re.search(r"http\S+", mail_about(mailbox, subject, address, count))
    assert found is not None
    return found[0]


def token_in(mailbox: Mailbox, address: str, count: int = 1, subject: str = LOGIN) -> str:
    """Return the token in the link of such a mail."""
    return parse_qs(urlsplit(link_in(mailbox, address, count, subject)).fragment)["token"][0]


def wrong(code: str) -> str:
    """Return another code."""
    return f"{(int(code) + 1) % 10**6:06d}"


@pytest.fixture
def code(api: ApiClient, owner: User, mailbox: Mailbox) -> str:
    """The code that was mailed to the owner."""
    assert api.send("post", "/auth/login", {"email": owner.email}).status_code == 200
    return code_in(mailbox, owner.email)


@pytest.fixture
def token(code: str, mailbox: Mailbox) -> str:
    """The token of the link that was mailed to the owner with the code."""
    return token_in(mailbox, "owner@example.org")


class Clock:
    """The clock of TOTP; it stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        """Return the time (called in place of time.time)."""
        return self.now

    def next_step(self) -> None:
        """Let a time step pass."""
        self.now += totp.STEP_SECONDS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of TOTP, standing still."""
    clock = Clock()
    monkeypatch.setattr(totp, "time", clock)
    return clock


@dataclass(frozen=True)
class Phone:
    """An authenticator app, and the recovery codes that were shown when it was confirmed."""

    secret: str
    clock: Clock
    recovery_codes: list[str]

    def code(self, steps_off: int = 0) -> str:
        """Return the code that the app shows now, or `steps_off` steps later."""
        return pyotp.TOTP(self.secret).at(int(self.clock.now) + steps_off * totp.STEP_SECONDS)

    def fresh_code(self) -> str:
        """Move the clock to the next step and return its code."""
        self.clock.next_step()
        return self.code()


def phone_of(user: User, clock: Clock) -> Phone:
    """Switch TOTP on for the user."""
    secret = totp.enrol(user).secret
    user.refresh_from_db()
    codes = totp.confirm(user, pyotp.TOTP(secret).at(int(clock.now)))
    user.refresh_from_db()
    return Phone(secret, clock, codes)


@pytest.fixture
def phone(owner: User, clock: Clock) -> Phone:
    """The owner's phone: logins need its codes."""
    return phone_of(owner, clock)


@dataclass(frozen=True)
class Wallet:
    """A hardware wallet, and the recovery codes that were shown when it was registered."""

    address: str
    recovery_codes: list[str]

    def sign(self, message: str) -> str:
        """Return the signature of the message, as the wallet makes it."""
        return signature_of(message)


def signature_of(message: str, key: str = WALLET_KEY) -> str:
    """Return the key's signature of the message: r, s and v in hex."""
    raw = PrivateKey(bytes.fromhex(key)).sign_recoverable(digest(message.encode()), hasher=None)
    return f"0x{raw[:64].hex()}{27 + raw[64]:02x}"


@pytest.fixture
def wallet(owner: User, settings: Settings) -> Wallet:
    """The owner's hardware wallet: logins need its signature."""
    challenge = hardware_wallet.start_registration(owner, WALLET_ADDRESS)
    codes = hardware_wallet.confirm_registration(owner, signature_of(challenge))
    owner.refresh_from_db()
    return Wallet(WALLET_ADDRESS, codes)


@pytest.fixture
def intruder(node_operator: User) -> TokenPair:
    """The tokens of another signed-in user."""
    return issue_tokens(node_operator)


def post(api: ApiClient, path: str, access_token: str | None = None, /, **data: Any) -> Any:
    """POST the keywords below /auth."""
    return api.send("post", f"/auth/{path}", data, token=access_token)


def failures_of(subject: LockoutSubject) -> int:
    """Return how many failures are counted against the subject."""
    count: bytes | None = redis_client().hget(subject.key, "n")
    return int(count or 0)


def use(api: ApiClient, refresh_token: str) -> int:
    """Return the status of a refresh with the token."""
    status: int = post(api, "refresh", refresh_token=refresh_token).status_code
    return status


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin, signed in to the operator pages."""
    return signed_in(admin)


@pytest.fixture
def super_admin_page(super_admin: User) -> Client:
    """The browser of the super admin, signed in to the operator pages."""
    return signed_in(super_admin)
