import json
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from accounts.api_keys import TooManyKeys, create_api_key
from accounts.management.users import user_of
from accounts.serializers.credentials import ApiKeySerializer
from lucid_gateway.policy.roles import PERMISSIONS, Role

MAX_NAME_LENGTH = 100
MAX_DAYS = 36_500


class Command(BaseCommand):
    help = "Create an API key. It is printed only once, because only its hash is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True, help="the owner's email address")
        parser.add_argument("--name", required=True, help="the purpose of the key")
        parser.add_argument(
            "--permission", action="append", dest="permissions", choices=sorted(PERMISSIONS[Role.SUPER_ADMIN]),
            help="one of the owner's permissions; may be repeated; default: all of them",
        )  # fmt: skip
        parser.add_argument("--expires-in-days", type=int, metavar="DAYS", help="default: the key never expires")
        parser.add_argument("--json", action="store_true", help="print the answer that the API would give")

    def handle(self, *args: Any, email: str, name: str, permissions: list[str] | None, **options: Any) -> None:
        """Create the key and print it."""
        user = user_of(email)
        owned = PERMISSIONS[Role(user.role)]
        if missing := sorted(set(permissions or ()) - owned):
            raise CommandError(f"{email} does not have {', '.join(missing)}")
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise CommandError(f"--name must have 1 to {MAX_NAME_LENGTH} characters")
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise CommandError(f"--expires-in-days must be 1 to {MAX_DAYS}")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        try:
            key, text = create_api_key(
                user, name=name, permissions=permissions or sorted(owned), expires_at=expires_at, by="manage.py"
            )
        except TooManyKeys as error:
            raise CommandError(error.message) from error
        answer = ApiKeySerializer(key).data | {"api_key": text}
        self.stdout.write(json.dumps(answer, cls=DjangoJSONEncoder, indent=2) if options["json"] else text)
