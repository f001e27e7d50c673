"""Mails, sent after the request, so that an answer does not reveal whether one was sent."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from smtplib import SMTPRecipientsRefused
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from accounts.models import User
from lucid_gateway.server.samples import count

logger = logging.getLogger(__name__)
RETRY_DELAYS_SECONDS = (0.1, 2.0, 10.0)
waiting = BoundedSemaphore(1000)


@cache
def senders() -> ThreadPoolExecutor:
    """Return the threads that send mail, created on first use because threads do not survive a fork."""
    return ThreadPoolExecutor(max_workers=8, thread_name_prefix="mail")


def send_login(user: User | None, *, code: str, token: str, minutes: int) -> None:
    """Mail the login code and the link; without a user do the same work, as far as a client can notice it."""
    write = login_mail(user.email, user.username, code=code, token=token, minutes=minutes) if user else None
    send_later(write)


def login_mail(email: str, username: str, **facts: Any) -> Callable[[], EmailMessage]:
    """Return a function that writes the mail of a login."""
    link = page_link("login", email=email, token=facts["token"])
    return lambda: message("Your Lucid login code", "login_code", email, username=username, link=link, **facts)


def send_password_reset(user: User | None, *, token: str, minutes: int) -> None:
    """Mail the link that sets a new password; without a user do the same work, as far as a client can notice it."""
    if user is None:
        return send_later(None)
    facts = {"username": user.username, "link": page_link("reset-password", token=token), "minutes": minutes}
    return send_later(lambda: message("Set a new Lucid password", "password_reset", user.email, **facts))


def send_email_confirmation(user: User, email: str, *, token: str, hours: int) -> None:
    """Mail the link that confirms a new address to that address."""
    facts = {"username": user.username, "link": page_link("confirm-email", token=token), "hours": hours}
    send_later(lambda: message("Confirm your new email address", "email_confirmation", email, **facts))


def send_notice(user: User, text: str, *, to: str | None = None) -> None:
    """Notify the owner of a change to the account, so that they notice changes by others."""
    email, username = to or user.email, user.username
    send_later(lambda: message("Your Lucid account", "notice", email, username=username, text=text))


def page_link(page: str, **parameters: str) -> str:
    """Return the address of a page, with the parameters in the fragment.

    Browsers do not send the fragment, so that no log, no proxy and no mail scanner that follows the link sees the
    secret.
    """
    return f"{settings.ENV.PUBLIC_BASE_URL}/{page}#{urlencode(parameters)}"


def message(subject: str, template: str, email: str, **facts: Any) -> EmailMessage:
    return EmailMessage(subject, render_to_string(f"accounts/{template}.txt", facts), to=[email])


def send_later(write: Callable[[], EmailMessage] | None) -> None:
    """Queue a mail, or None in its place. If a thousand are waiting already, drop it and log an error."""
    if not waiting.acquire(blocking=False):
        logger.error("mail dropped: too many are waiting")
        return
    senders().submit(deliver, write)


def deliver(write: Callable[[], EmailMessage] | None) -> None:
    """Send the mail, with retries; log the last failure, without the text of the mail.

    The first try waits until the request was answered, so that the time of the answer reveals nothing about the mail.
    """
    failure: Exception
    try:
        for delay in RETRY_DELAYS_SECONDS:
            time.sleep(delay)
            if write is None:
                return
            try:
                write().send()
                count("mail", "sent")
                return
            except (SMTPRecipientsRefused, ValueError) as error:
                failure = error
                if is_final(error):
                    break
            except OSError as error:
                # smtplib's exceptions are OSErrors, as are those of the network.
                failure = error
        count("mail", "failed")
        logger.error("mail not sent", extra={"error": type(failure).__name__})
    finally:
        waiting.release()


def is_final(error: Exception) -> bool:
    """Return whether another try is useless: no recipient exists, or the address is invalid.

    A server that refuses for now (RFC 5321, 4yz replies, such as greylisting) is tried again.
    """
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return True
