"""Login mails: sent after the request, retried, and never quoted in the log."""

import logging
import time
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.core.mail import EmailMessage
from pytest_django import Settings

from accounts import mail
from accounts.models import User
from accounts.tests.conftest import code_in
from conftest import ApiClient
from testing.mail import Mailbox, running_smtp_server
from testing.servers import free_port
from testing.waiting import wait_until


class NobodyHere(Mailbox):
    """A mail server that refuses every recipient."""

    tries = 0

    async def handle_RCPT(self, *_: Any) -> str:
        self.tries += 1
        return "550 no such user"


def test_a_mail_server_that_starts_late_gets_the_mail(api: ApiClient, owner: User, settings: Settings) -> None:
    port = free_port()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port

    started = time.monotonic()
    assert api.send("post", "/auth/login", {"email": owner.email}).status_code == 200
    assert time.monotonic() - started < 6  # the retries go on for 12 seconds
    time.sleep(0.3)
    with running_smtp_server(port) as (mailbox, _):
        assert code_in(mailbox, owner.email)


def test_a_mail_that_was_not_sent_is_logged_without_its_text(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    monkeypatch.setattr(mail, "RETRY_DELAYS_SECONDS", (0.0, 0.0))

    with caplog.at_level(logging.DEBUG):
        mail.send_later(lambda: EmailMessage("Subject", "your login code is 424242", to=["owner@example.org"]))
        wait_until(lambda: caplog.records)

    (record,) = caplog.records
    assert record.getMessage() == "mail not sent"
    assert record.error == "ConnectionRefusedError"
    assert "424242" not in repr(vars(record))


def test_an_invalid_address_is_logged(mailbox: Mailbox, caplog: pytest.LogCaptureFixture) -> None:
    mail.send_later(lambda: EmailMessage("Subject", "text", to=["a@" + "ü" * 60 + ".org"]))
    wait_until(lambda: caplog.records)

    assert caplog.records[0].getMessage() == "mail not sent"


def test_a_refused_recipient_is_not_tried_again(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    nobody = NobodyHere()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", free_port()
    controller = Controller(nobody, hostname="127.0.0.1", port=settings.EMAIL_PORT)
    controller.start()
    mail.send_later(lambda: EmailMessage("Subject", "text", to=["nobody@example.org"]))
    wait_until(lambda: caplog.records)
    controller.stop()

    assert nobody.tries == 1


def test_a_mail_is_dropped_if_a_thousand_are_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mailbox: Mailbox
) -> None:
    waiting = mail.BoundedSemaphore(1)
    monkeypatch.setattr(mail, "waiting", waiting)
    waiting.acquire()
    mail.send_later(lambda: EmailMessage("Subject", "text", to=["owner@example.org"]))

    assert [record.getMessage() for record in caplog.records] == ["mail dropped: too many are waiting"]


def test_the_code_is_not_in_the_log(api: ApiClient, caplog: pytest.LogCaptureFixture, code: str) -> None:
    api.send("post", "/auth/verify", {"email": "owner@example.org", "code": code})

    assert code not in caplog.text
