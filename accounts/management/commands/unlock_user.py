"""Lets a locked user in again."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from accounts.management.users import user_of
from accounts.users.locks import unlock_user


class Command(BaseCommand):
    help = "Unlock a user: they may log in, and their API keys work again; tokens that the lock ended stay so."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the user's email address")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        """Unlock the user."""
        user = user_of(email)
        unlock_user(user, by="manage.py")
        self.stdout.write(f"{user.email} is not locked")
