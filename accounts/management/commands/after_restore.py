"""Makes a database that was restored from a backup safe to serve from."""

import json
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandError

from accounts.management.published import wait_until_published
from accounts.models import ApiKey, IssuedToken
from accounts.restoring import retire_what_was_issued, settle_with_redis
from accounts.tokens.keyring import keyring
from accounts.tokens.signing_keys import RotationUnderway
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.errors import ServiceUnavailable


class Command(BaseCommand):
    help = (
        "Run this once after the database was restored from a backup, before the gateways start. Everybody has to log "
        "in again, and API keys are refused until they are confirmed (confirm_api_keys): the backup has brought back "
        "what was revoked or used since it was made."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, yes: bool, **options: Any) -> None:
        """Retire all that was issued, and print how much that was."""
        if not yes:
            self.confirm()
        with suppress(ServiceUnavailable):  # no key can be read: there will be a fresh one
            keyring()  # an empty database gets its first key, which must not count any more either
        try:
            retired = retire_what_was_issued()
        except RotationUnderway as error:
            raise CommandError("another process is rotating the keys: run this again") from error
        try:
            mailed = settle_with_redis()
        except RedisUnavailable as error:
            raise CommandError("done in the database, but Redis is unavailable: start it and run this again") from error
        wait_until_published()
        numbers = vars(retired) | {"mailed": mailed}
        self.stdout.write(json.dumps(numbers) if options["json"] else self.sentence(numbers))

    def confirm(self) -> None:
        """Ask; raise CommandError unless the answer is yes."""
        tokens, keys = IssuedToken.objects.live().count(), ApiKey.objects.live().filter(suspended_at=None).count()
        sessions = Session.objects.count()
        self.stdout.write(f"{tokens} live tokens and {sessions} admin sessions will end, {keys} API keys be suspended.")
        if input("Type yes to go on: ").strip() != "yes":
            raise CommandError("nothing was changed")

    def sentence(self, numbers: dict[str, Any]) -> str:
        """Return the numbers in words, with what is left to do."""
        return (
            "{signing_key} signs now; {tokens} tokens and {admin_sessions} admin sessions ended, {mailed} mailed "
            "logins and links voided, {api_keys} API keys suspended: confirm_api_keys, or the page of the keys in "
            "/admin, lets them work again"
        ).format(**numbers)
