"""Lifts the rule of a network, for example after operators have denied their own addresses."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from lucid_gateway.policy.errors import NotFound
from ratelimit.ruling import lift_address_rule


class Command(BaseCommand):
    help = "Lift the rule that denies, blocks, halves or allows a network; workers apply this within seconds."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--network", required=True, help="an address, or a network such as 192.0.2.0/24")

    def handle(self, *args: Any, network: str, **options: Any) -> None:
        try:
            lift_address_rule(network, by="manage.py")
        except ValidationError as error:
            raise CommandError(f"--network: {' '.join(error.messages)}") from error
        except NotFound as error:
            raise CommandError(f"{network} has no rule") from error
        self.stdout.write(f"the rule of {network} was lifted")
