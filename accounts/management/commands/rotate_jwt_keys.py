"""Rotates the key that signs tokens."""

import json
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.management.published import wait_until_published
from accounts.models import IssuedToken, SigningKey
from accounts.tokens.keyring import keyring
from accounts.tokens.signing_keys import ALGORITHMS, RotationUnderway, rotate
from lucid_gateway.policy.errors import ServiceUnavailable


class Command(BaseCommand):
    help = (
        "Make a new key the active one. The previous key verifies tokens until the last one that it signed expires. "
        "Running workers switch within seconds, without a restart."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--algorithm", choices=ALGORITHMS, help="of the new key; default: JWT_ALGORITHM")
        parser.add_argument(
            "--retire-now", action="store_true",
            help="emergency: revoke every other key immediately, and with them all live tokens",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only print what would happen; change nothing")
        parser.add_argument("--no-input", action="store_true", help="do not ask for confirmation of --retire-now")
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON")

    def handle(self, *args: Any, algorithm: str | None, retire_now: bool, **options: Any) -> None:
        """Rotate the keys, and print which key signs now."""
        with suppress(ServiceUnavailable):  # no key can sign: this rotation completes an interrupted one
            keyring()  # creates the first key
        algorithm = algorithm or settings.ENV.JWT_ALGORITHM
        live = IssuedToken.objects.live().count() if retire_now else 0
        if options["dry_run"]:
            return self.print_plan(algorithm, retire_now, live, as_json=options["json"])
        if retire_now and not options["no_input"]:
            self.confirm(live)
        try:
            rotation = rotate(algorithm, retire_now=retire_now)
        except RotationUnderway as error:
            raise CommandError("another process is rotating the keys: try again later") from error
        wait_until_published()
        if options["json"]:
            return self.stdout.write(json.dumps(vars(rotation)))
        state = "is revoked" if retire_now else "verifies until its last token expires"
        before = "".join(f"; {kid} {state}" for kid in rotation.replaced)
        return self.stdout.write(
            f"{rotation.active} ({algorithm}) signs now{before}; {rotation.tokens_ended} tokens ended"
        )

    def confirm(self, live: int) -> None:
        """Ask for confirmation; raise CommandError unless the answer is yes."""
        self.stdout.write(f"All earlier keys and {live} live tokens will be revoked. All users must log in again.")
        if input("Type yes to continue: ").strip() != "yes":
            raise CommandError("nothing was changed")

    def print_plan(self, algorithm: str, retire_now: bool, live: int, *, as_json: bool) -> None:
        active = SigningKey.objects.filter(state=SigningKey.State.ACTIVE).values_list("kid", flat=True).first()
        plan = {"algorithm": algorithm, "replaces": active, "retire_now": retire_now, "tokens_ended": live}
        text = f"would replace {active} with a new {algorithm} key and end {live} live tokens"
        self.stdout.write(json.dumps(plan) if as_json else text)
