"""What the account tests share: a real mail server, and a login that has got as far as its code."""

import re
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from accounts.models import User
from conftest import ApiClient
from testing.mail import Mailbox, running_smtp_server


@pytest.fixture(scope="session")
def smtp_server() -> Iterator[tuple[Mailbox, int]]:
    """A mail server for the whole run, and its port."""
    with running_smtp_server() as server:
        yield server


@pytest.fixture
def mailbox(smtp_server: tuple[Mailbox, int], settings: Settings) -> Mailbox:
    """The server's mailbox, empty; the gateway's mails go there."""
    mailbox, port = smtp_server
    mailbox.mails.clear()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    return mailbox


def code_in(mailbox: Mailbox, address: str, count: int = 1) -> str:
    """Return the code of the count-th mail to the address."""
    found = re.search(r"\b[0-9]{6}\b", mailbox.wait_for(address, count).get_content())
    assert found is not None
    return found[0]


def wrong(code: str) -> str:
    """Return another code."""
    return f"{(int(code) + 1) % 10**6:06d}"


@pytest.fixture
def code(api: ApiClient, owner: User, mailbox: Mailbox) -> str:
    """The code that was mailed to the owner."""
    assert api.send("post", "/auth/login", {"email": owner.email}).status_code == 200
    return code_in(mailbox, owner.email)
