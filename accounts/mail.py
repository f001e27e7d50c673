"""Mails, sent off the request's path so that an answer tells nothing of whether one was sent."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from smtplib import SMTPRecipientsRefused
from threading import BoundedSemaphore

from django.core.mail import EmailMessage
from django.template.loader import render_to_string

from accounts.models import User

logger = logging.getLogger(__name__)
RETRY_DELAYS_SECONDS = (0.0, 2.0, 10.0)
waiting = BoundedSemaphore(1000)


@cache
def senders() -> ThreadPoolExecutor:
    """Return the threads that talk to the mail server; made on first use, after the worker was forked."""
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="mail")


def send_login_code(user: User, code: str, *, minutes: int) -> None:
    """Mail the login code."""
    body = render_to_string("accounts/login_code.txt", {"user": user, "code": code, "minutes": minutes})
    send_later(EmailMessage("Your Lucid login code", body, to=[user.email]))


def send_later(message: EmailMessage) -> None:
    """Queue the mail; when a thousand are waiting already, drop it and say so in the log."""
    if not waiting.acquire(blocking=False):
        logger.error("mail dropped: too many are waiting")
        return
    senders().submit(deliver, message)


def deliver(message: EmailMessage) -> None:
    """Send the mail, trying again after a while; log the failure of the last try, without the mail's text."""
    failure: Exception
    try:
        for delay in RETRY_DELAYS_SECONDS:
            time.sleep(delay)
            try:
                message.send()
                return
            except (SMTPRecipientsRefused, ValueError) as error:
                # Nobody is there, or there is no writing the address: another try would only hold up other mails.
                failure = error
                break
            except OSError as error:
                # smtplib's exceptions are OSErrors, as are those of the network.
                failure = error
        logger.error("mail not sent", extra={"error": type(failure).__name__})
    finally:
        waiting.release()
