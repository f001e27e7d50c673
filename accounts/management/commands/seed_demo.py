"""Creates the accounts of the demo."""

import base64
import hashlib
import hmac
import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from lucid_gateway.policy.roles import Role

ADMIN, OPERATOR, USER = "admin@lucid.test", "operator@lucid.test", "demo@lucid.test"


def ensure_user(email: str, role: Role) -> User:
    """Return the user with the email or, if it has changed since, with its username; create a missing user."""
    name = email.partition("@")[0]
    user = User.objects.filter(email=email).first() or User.objects.filter(username=name).first()
    return user or User.objects.create_user(email, name, role=role, email_verified=True)


def one_time_password() -> str:
    """Return the admin's one-time password. It is derived from SECRET_KEY, so that each start can print it unstored."""
    digest = hmac.digest(settings.SECRET_KEY.encode(), b"one-time password of the demo admin", hashlib.sha256)
    return f"Lucid-{base64.urlsafe_b64encode(digest[:12]).decode()}-1a"


def ensure_admin() -> tuple[User, str | None]:
    """Return the admin and the one-time password, or None in its place once the admin has changed it."""
    admin, password = ensure_user(ADMIN, Role.SUPER_ADMIN), one_time_password()
    if not admin.has_usable_password():
        admin.set_password(password)
        admin.save(update_fields=["password"])
    return admin, password if admin.check_password(password) else None


class Command(BaseCommand):
    help = "Create a demo user, a node operator and a super admin with a one-time password (never in production)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the accounts as JSON")
        parser.add_argument("--migrate", action="store_true", help="migrate the database first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Create missing accounts and print all; the admin's password only until it is changed."""
        if settings.ENV.in_production:
            raise CommandError("refused in production: everyone knows the accounts that this command creates")
        if options["migrate"]:
            call_command("migrate", verbosity=0)
        admin, password = ensure_admin()
        operator, user = ensure_user(OPERATOR, Role.NODE_OPERATOR), ensure_user(USER, Role.USER)
        accounts = {"admin": admin.email} | ({"admin_password": password} if password else {})
        accounts |= {"operator": operator.email, "user": user.email}
        accounts["user_access_token"] = issue_tokens(user).access
        if options["json"]:
            self.stdout.write(json.dumps(accounts, indent=2))
        else:
            self.stdout.write("\n".join(f"{name}: {value}" for name, value in accounts.items()))
