"""Confirms API keys that after_restore suspended."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from accounts.management.users import user_of
from accounts.models import ApiKey
from accounts.restoring import confirm_api_keys
from lucid_gateway.kernel.redis.access import RedisUnavailable


def selected_keys(email: str | None, key_ids: list[str] | None) -> QuerySet[ApiKey]:
    """Return the keys that the arguments name; raise CommandError for a user or a key that does not exist."""
    if email:
        return ApiKey.objects.owned_by(user_of(email).pk)
    if not key_ids:
        return ApiKey.objects.all()
    keys = ApiKey.objects.filter(key_id__in=key_ids)
    if missing := set(key_ids) - set(keys.values_list("key_id", flat=True)):
        raise CommandError(f"no API key has the id {', '.join(sorted(missing))}")
    return keys


class Command(BaseCommand):
    help = "Make suspended API keys valid again. Confirm only keys that were not revoked after the backup was made."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--key-id", action="append", dest="key_ids", help="id of a key; may be repeated")
        which.add_argument("--email", help="all keys of this user")
        which.add_argument("--all", action="store_true", help="all keys of all users")
        parser.add_argument("--json", action="store_true", help="print the number as JSON")

    def handle(self, *args: Any, email: str | None, key_ids: list[str] | None, **options: Any) -> None:
        """Confirm the keys, and print how many were suspended."""
        try:
            confirmed = confirm_api_keys(selected_keys(email, key_ids), by="manage.py")
        except RedisUnavailable as error:
            raise CommandError("Redis is unavailable: run this again when it is back") from error
        self.stdout.write(
            json.dumps({"confirmed": confirmed}) if options["json"] else f"{confirmed} API keys confirmed"
        )
