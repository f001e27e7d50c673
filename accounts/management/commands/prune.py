"""Deletes expired and old data."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from accounts.prune import PruneTask, prune_tasks
from lucid_gateway.audit.events import record


class Command(BaseCommand):
    help = "Delete expired tokens, ended keys, old figures and audit events (AUDIT_RETENTION_DAYS). Always safe to run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count the rows; delete nothing")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        """Delete in batches, with a progress bar on a terminal, and print the number of rows."""
        deleted = {task.name: task.rows.count() if dry_run else self.run(task) for task in prune_tasks()}
        if not dry_run and any(deleted.values()):
            record("pruned", actor="manage.py", deleted=deleted)
        self.stdout.write(json.dumps(deleted) if options["json"] else self.sentence(deleted, dry_run))

    def run(self, task: PruneTask) -> int:
        """Run the task; return how many rows it deleted."""
        with tqdm(total=task.rows.count(), desc=task.name, unit="row", disable=not sys.stderr.isatty()) as bar:
            deleted = 0
            for batch in task.run():
                bar.update(batch)
                deleted += batch
        return deleted

    def sentence(self, deleted: dict[str, int], dry_run: bool) -> str:
        parts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in deleted.items())
        return f"{'would delete' if dry_run else 'deleted'}: {parts}"
