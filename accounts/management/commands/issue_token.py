"""Issues tokens to a user without a login, for scripts and first experiments."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from accounts.models import User
from accounts.serializers.tokens import tokens_answer
from accounts.tokens.issuing import issue_tokens
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.record import RequestRecord, current


class Command(BaseCommand):
    help = "Issue an access token and a refresh token to a user, as a login would."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the user's email address")
        parser.add_argument("--json", action="store_true", help="print the answer that auth/verify would give")

    def handle(self, *args: Any, email: str, **options: Any) -> None:
        """Issue the tokens, and print them or the whole answer as JSON."""
        user = User.objects.filter(email=email.lower(), is_active=True).first()
        if user is None:
            raise CommandError(f"no active user has the email {email}")
        if user.is_locked:
            raise CommandError(f"{email} is locked: {user.lock_reason or 'no reason given'}")
        current.set(RequestRecord(user_agent="manage.py issue_token", actor="manage.py"))
        pair = issue_tokens(user)
        record("token.issued", subject=user, actor="manage.py")
        if options["json"]:
            self.stdout.write(json.dumps(tokens_answer(user, pair), cls=DjangoJSONEncoder, indent=2))
        else:
            self.stdout.write(f"access_token  {pair.access}\nrefresh_token {pair.refresh}")
