"""Makes a new key the one that signs tokens."""

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
        "Make a new key the active one. The one before verifies until the last token that it signed has expired. "
        "Running workers follow within seconds, without a restart."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--algorithm", choices=ALGORITHMS, help="of the new key; default: JWT_ALGORITHM")
        parser.add_argument(
            "--retire-now", action="store_true",
            help="emergency: revoke every other key at once, and all live tokens with them",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="say what would happen, and do nothing")
        parser.add_argument("--no-input", action="store_true", help="do not ask before --retire-now")
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON")

    def handle(self, *args: Any, algorithm: str | None, retire_now: bool, **options: Any) -> None:
        """Rotate, and print which key signs now."""
        with suppress(ServiceUnavailable):  # none can sign: an earlier rotation was cut short, this one completes it
            keyring()  # the first key is there
        algorithm = algorithm or settings.ENV.JWT_ALGORITHM
        doomed = IssuedToken.objects.live().count() if retire_now else 0
        if options["dry_run"]:
            return self.say_what_would_happen(algorithm, retire_now, doomed, as_json=options["json"])
        if retire_now and not options["no_input"]:
            self.confirm(doomed)
        try:
            rotation = rotate(algorithm, retire_now=retire_now)
        except RotationUnderway as error:
            raise CommandError("somebody else rotates the keys at this moment") from error
        wait_until_published()
        if options["json"]:
            return self.stdout.write(json.dumps(vars(rotation)))
        fate = "revoked" if retire_now else "verifies until its last token has expired"
        before = "".join(f"; {kid} {fate}" for kid in rotation.replaced)
        return self.stdout.write(
            f"{rotation.active} ({algorithm}) signs now{before}; {rotation.tokens_ended} tokens ended"
        )

    def confirm(self, doomed: int) -> None:
        """Ask; raise CommandError unless the answer is yes."""
        self.stdout.write(f"Every earlier key is revoked, and {doomed} live tokens die: everybody has to log in again.")
        if input("Type yes to go on: ").strip() != "yes":
            raise CommandError("nothing was changed")

    def say_what_would_happen(self, algorithm: str, retire_now: bool, doomed: int, *, as_json: bool) -> None:
        """Print what a rotation would do."""
        active = SigningKey.objects.filter(state=SigningKey.State.ACTIVE).values_list("kid", flat=True).first()
        plan = {"algorithm": algorithm, "replaces": active, "retire_now": retire_now, "tokens_ended": doomed}
        text = f"would replace {active} by a new {algorithm} key and end {doomed} live tokens"
        self.stdout.write(json.dumps(plan) if as_json else text)
