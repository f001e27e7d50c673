"""Rebuilds the revocations in Redis from the database."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.tokens.revocation.cache import suspect_all
from accounts.tokens.revocation.rebuild import rebuild
from lucid_gateway.kernel.redis.access import RedisUnavailable


class Command(BaseCommand):
    help = "Write revoked tokens and locked accounts from the database to Redis, as every worker does after an outage."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the number as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Rebuild the revocations, and print the number of entries."""
        suspect_all()
        try:
            entries = rebuild()
        except RedisUnavailable as error:
            raise CommandError(f"Redis is unavailable: {error}") from error
        self.stdout.write(json.dumps({"entries": entries}) if options["json"] else f"{entries} entries written")
