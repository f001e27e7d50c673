"""Forgets what has had its time."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from accounts.prune import Chore, chores
from lucid_gateway.audit.events import record


class Command(BaseCommand):
    help = "Delete expired tokens, ended keys and old audit events (AUDIT_RETENTION_DAYS). Safe to run at any time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        """Delete in batches, with a progress bar on a terminal, and print how many rows went."""
        gone = {chore.name: chore.rows.count() if dry_run else self.run(chore) for chore in chores()}
        if not dry_run and any(gone.values()):
            record("pruned", actor="manage.py", deleted=gone)
        self.stdout.write(json.dumps(gone) if options["json"] else self.sentence(gone, dry_run))

    def run(self, chore: Chore) -> int:
        """Do the chore; return how many rows went."""
        with tqdm(total=chore.rows.count(), desc=chore.name, unit="row", disable=not sys.stderr.isatty()) as bar:
            gone = 0
            for batch in chore.run():
                bar.update(batch)
                gone += batch
        return gone

    def sentence(self, gone: dict[str, int], dry_run: bool) -> str:
        """Return the numbers as a line."""
        parts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in gone.items())
        return f"{'would delete' if dry_run else 'deleted'}: {parts}"
