"""Makes the accounts that a first look needs."""

import json
import secrets
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from accounts.roles import Role
from accounts.tokens import issue_tokens

ADMIN, OPERATOR, USER = "admin@lucid.test", "operator@lucid.test", "demo@lucid.test"


def ensure_user(email: str, role: Role) -> User:
    """Return the user of that email or, if they have another one since, of its username; create who is missing."""
    name = email.partition("@")[0]
    user = User.objects.filter(email=email).first() or User.objects.filter(username=name).first()
    return user or User.objects.create_user(email, name, role=role, email_verified=True)


class Command(BaseCommand):
    help = "Create a demo user, a node operator and a super admin with a new one-time password (never in production)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the accounts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Create what is missing, set the admin's password anew and print it."""
        if settings.ENV.in_production:
            raise CommandError("refused in production: the accounts it makes are known to everyone")
        password = f"Lucid-{secrets.token_urlsafe(12)}-1a"
        admin = ensure_user(ADMIN, Role.SUPER_ADMIN)
        admin.set_password(password)
        admin.save(update_fields=["password"])
        operator, user = ensure_user(OPERATOR, Role.NODE_OPERATOR), ensure_user(USER, Role.USER)
        accounts = {"admin": admin.email, "admin_password": password, "operator": operator.email, "user": user.email}
        accounts["user_access_token"] = issue_tokens(user).access
        if options["json"]:
            self.stdout.write(json.dumps(accounts, indent=2))
        else:
            self.stdout.write("\n".join(f"{name}: {value}" for name, value in accounts.items()))
