"""Makes a database that was restored from a backup safe to use."""

import json
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandError

from accounts.management.published import wait_until_published
from accounts.models import ApiKey, IssuedToken
from accounts.restoring import retire_issued_credentials, settle_with_redis
from accounts.tokens.keyring import keyring
from accounts.tokens.signing_keys import RotationUnderway
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.errors import ServiceUnavailable


class Command(BaseCommand):
    help = (
        "Run this once after the database was restored from a backup, before the gateways start. All users must log "
        "in again, and API keys are refused until they are confirmed (confirm_api_keys), because the backup brings "
        "back tokens and keys that were revoked or used after it was made."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, yes: bool, **options: Any) -> None:
        """End all issued credentials, and print how many there were."""
        if not yes:
            self.confirm()
        with suppress(ServiceUnavailable):  # no key can be decrypted; a fresh one is created below
            keyring()  # creates the first key in an empty database, so that it is retired, too
        try:
            retired = retire_issued_credentials()
        except RotationUnderway as error:
            raise CommandError("another process is rotating the keys: run this again later") from error
        try:
            mailed = settle_with_redis()
        except RedisUnavailable as error:
            raise CommandError("the database is done, but Redis is unavailable: start it and run this again") from error
        wait_until_published()
        numbers = vars(retired) | {"mailed": mailed}
        self.stdout.write(json.dumps(numbers) if options["json"] else self.sentence(numbers))

    def confirm(self) -> None:
        """Ask for confirmation; raise CommandError unless the answer is yes."""
        tokens, keys = IssuedToken.objects.live().count(), ApiKey.objects.live().filter(suspended_at=None).count()
        sessions = Session.objects.count()
        self.stdout.write(f"{tokens} live tokens and {sessions} admin sessions end, {keys} API keys are suspended.")
        if input("Type yes to continue: ").strip() != "yes":
            raise CommandError("nothing was changed")

    def sentence(self, numbers: dict[str, Any]) -> str:
        """Return the numbers in words, and the next step."""
        return (
            "{signing_key} signs now; {tokens} tokens and {admin_sessions} admin sessions ended, {mailed} mailed "
            "logins and links voided, {api_keys} API keys suspended. Confirm them with confirm_api_keys or in /admin"
        ).format(**numbers)
