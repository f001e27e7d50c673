"""Locks a user's tokens, API keys and admin sessions."""

from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.management.published import wait_until_published
from accounts.management.users import user_of
from accounts.users.locks import FOREVER, lock_user


def end_of_lock(text: str) -> datetime:
    """Parse an RFC 3339 time; raise CommandError unless it has a time zone and lies in the future."""
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or timezone.is_naive(parsed):
        raise CommandError(f"--until: {text} is not a time with a zone, such as 2030-01-31T12:00:00Z")
    if parsed <= timezone.now():
        raise CommandError(f"--until: {text} is in the past")
    return parsed


class Command(BaseCommand):
    help = "Lock a user: tokens, API keys and admin sessions stop with their next request."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the user's email address")
        parser.add_argument("--reason", default="locked on the command line", help="why; shown to other operators")
        parser.add_argument("--until", help="when the lock ends (RFC 3339); default: never")

    def handle(self, *args: Any, email: str, reason: str, until: str | None, **options: Any) -> None:
        user = user_of(email)
        lock_user(user, reason=reason, by="manage.py", until=end_of_lock(until) if until else FOREVER)
        wait_until_published()
        self.stdout.write(f"{user.email} is locked until {until or 'an operator unlocks the account'}")
