"""Unlocks a locked user."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from accounts.management.users import user_of
from accounts.users.locks import unlock_user


class Command(BaseCommand):
    help = "Unlock a user, who may log in again and whose API keys work again. Tokens that the lock ended stay revoked."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the user's email address")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        user = user_of(email)
        unlock_user(user, by="manage.py")
        self.stdout.write(f"{user.email} is not locked")
