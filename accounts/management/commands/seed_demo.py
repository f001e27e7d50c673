"""Makes the accounts that a first look needs."""

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
    """Return the user of that email or, if they have another one since, of its username; create who is missing."""
    name = email.partition("@")[0]
    user = User.objects.filter(email=email).first() or User.objects.filter(username=name).first()
    return user or User.objects.create_user(email, name, role=role, email_verified=True)


def one_time_password() -> str:
    """Return the password that the admin of this installation gets: it follows from SECRET_KEY, so that it is known at
    each start, for as long as the admin has no other, and stored nowhere.
    """
    digest = hmac.digest(settings.SECRET_KEY.encode(), b"one-time password of the demo admin", hashlib.sha256)
    return f"Lucid-{base64.urlsafe_b64encode(digest[:12]).decode()}-1a"


def ensure_admin() -> tuple[User, str | None]:
    """Return the admin and their one-time password, or None in its place once they have a password of their own."""
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
        """Create what is missing and print it; the admin's password only while it is the one that was made here."""
        if settings.ENV.in_production:
            raise CommandError("refused in production: the accounts it makes are known to everyone")
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
