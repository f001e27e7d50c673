"""Revokes the tokens of one user, of all users, or a single token."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.management.published import wait_until_published
from accounts.management.users import user_of
from accounts.models import IssuedToken, IssuedTokenQuerySet
from accounts.tokens.revocation.revoking import revoke
from accounts.users.staff import end_sessions
from lucid_gateway.audit.events import record


def selected_tokens(email: str | None, jti: str | None) -> IssuedTokenQuerySet:
    """Return the tokens that the arguments name; raise CommandError for a user or token that does not exist."""
    if email:
        return IssuedToken.objects.filter(user=user_of(email))
    if jti:
        tokens = IssuedToken.objects.filter(jti=jti)
        if not tokens.exists():
            raise CommandError(f"no token has the jti {jti}")
        return tokens
    return IssuedToken.objects.all()


class Command(BaseCommand):
    help = "Revoke live tokens, from their next request on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--email", help="all tokens of this user")
        which.add_argument("--jti", help="the token with this id")
        which.add_argument("--all", action="store_true", help="all tokens; all users must log in again")
        parser.add_argument("--no-input", action="store_true", help="do not ask for confirmation of --all")
        parser.add_argument("--json", action="store_true", help="print the number as JSON")

    def handle(self, *args: Any, email: str | None, jti: str | None, **options: Any) -> None:
        """Revoke the tokens, and print how many were live."""
        tokens = selected_tokens(email, jti)
        if options["all"] and not options["no_input"]:
            self.confirm(tokens.live().count())
        ended = end_sessions(user_of(email), by="manage.py") if email else self.revoke(tokens)
        wait_until_published()
        self.stdout.write(json.dumps({"revoked": ended}) if options["json"] else f"{ended} tokens revoked")

    def revoke(self, tokens: IssuedTokenQuerySet) -> int:
        """Revoke tokens with an audit event that names no user; return how many were live."""
        ended = revoke(tokens)
        record("token.revoked", actor="manage.py", tokens=ended)
        return ended

    def confirm(self, live: int) -> None:
        """Ask for confirmation; raise CommandError unless the answer is yes."""
        if input(f"{live} live tokens will stop working. Type yes to continue: ").strip() != "yes":
            raise CommandError("nothing was revoked")
