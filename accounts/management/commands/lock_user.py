"""Keeps a user out, everywhere and at once."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.management.published import wait_until_published
from accounts.management.users import user_of
from accounts.users.locks import FOREVER, lock_user


def moment(text: str) -> datetime:
    """Return the time of an RFC 3339 text; raise CommandError unless it is one, with its zone, and to come."""
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or timezone.is_naive(parsed):
        raise CommandError(f"--until: {text} is no time with a zone, such as 2030-01-31T12:00:00Z")
    if parsed <= timezone.now():
        raise CommandError(f"--until: {text} is past")
    return parsed


class Command(BaseCommand):
    help = "Lock a user: tokens, API and admin stop with the next request."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the user's email address")
        parser.add_argument("--reason", default="locked on the command line", help="for the operators who come after")
        parser.add_argument("--until", help="when the lock ends (RFC 3339); without it, never")

    def handle(self, *args: Any, email: str, reason: str, until: str | None, **options: Any) -> None:
        """Lock the user."""
        user = user_of(email)
        lock_user(user, reason=reason, by="manage.py", until=moment(until) if until else FOREVER)
        wait_until_published()
        self.stdout.write(f"{user.email} is locked until {until or 'somebody unlocks it'}")
