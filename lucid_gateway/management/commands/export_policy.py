import json
from typing import Any

from django.core.management.base import BaseCommand

from lucid_gateway.policy.document import policy_document


class Command(BaseCommand):
    help = "Print the policy (tiers, roles, clusters, routes, header and path rules, errors, reasons, keys) as JSON."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(json.dumps(policy_document(), indent=1, ensure_ascii=False))
