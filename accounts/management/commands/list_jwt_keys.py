"""Lists the keys that sign and verify tokens."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder

from accounts.models import IssuedToken, SigningKey

COLUMNS = ("kid", "algorithm", "state", "created_at", "activated_at", "retired_at", "verify_until", "revoked_at")


def row_of(key: SigningKey) -> dict[str, Any]:
    """Return the key's columns without the secret, and the number of live tokens it has signed."""
    live = IssuedToken.objects.filter(kid=key.kid).live().count()
    return {name: getattr(key, name) for name in COLUMNS} | {"live_tokens": live}


class Command(BaseCommand):
    help = "List the signing keys, newest first, without their secrets."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the keys as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = [row_of(key) for key in SigningKey.objects.all()]
        if options["json"]:
            return self.stdout.write(json.dumps(rows, cls=DjangoJSONEncoder, indent=2))
        for row in rows:
            until = f"until {row['verify_until']:%Y-%m-%d %H:%M}" if row["verify_until"] else ""
            line = (
                f"{row['kid']:<18}{row['algorithm']:<8}{row['state']:<10}{row['live_tokens']:>8} live tokens  {until}"
            )
            self.stdout.write(line.rstrip())
        return None
