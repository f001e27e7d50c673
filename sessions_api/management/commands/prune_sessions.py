"""Finishes the deletion of sessions whose data the session-management cluster still holds, and deletes the sessions and
trust policies of deleted accounts.
"""

import json
import random
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from proxy.choosing.closures import closures_cache
from sessions_api.deleted_accounts import begin_deletions, count_sessions, delete_policies
from sessions_api.deletion import caller_for, finish_deletion
from sessions_api.models import Session

MAX_FAILURES = 5  # in a row: then the cluster is down, and each further try would cost a timeout


class Command(BaseCommand):
    help = (
        "Finish half-deleted sessions: delete them on the session-management cluster, then remove their rows. "
        "Also delete the sessions and trust policies of deleted accounts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only count, delete nothing")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        finished = 0 if dry_run else self.delete_all()
        pending = Session.objects.half_deleted().count() + count_sessions()
        numbers = {"finished": finished, "pending": pending}
        text = f"finished: {finished} sessions, pending: {pending}"
        self.stdout.write(json.dumps(numbers) if options["json"] else text)
        if pending and not dry_run:
            raise CommandError("the session-management cluster is unavailable or uploads are in progress: try again")

    def delete_all(self) -> int:
        """Mark the sessions of deleted accounts, finish all deletions and return how many, then delete policies."""
        closures_cache.load()  # only workers refresh it in the background; a cluster in maintenance gets no calls
        begin_deletions()
        finished = self.finish_all()
        delete_policies()
        return finished

    def finish_all(self) -> int:
        """Finish half-deleted sessions until MAX_FAILURES fail in a row; return how many were finished."""
        rows = Session.objects.half_deleted()
        keys = list(rows.order_by().values_list("pk", flat=True))
        random.shuffle(keys)  # otherwise a few that always fail would block all others on every run
        finished = failures = 0
        for key in tqdm(keys, desc="sessions", unit="session", disable=not sys.stderr.isatty()):
            session = rows.select_related("user").filter(pk=key).first()
            if session is None:  # another process has finished it meanwhile
                continue
            done = finish_deletion(session, by=caller_for(session.user))
            finished, failures = finished + done, 0 if done else failures + 1
            if failures == MAX_FAILURES:
                break
        return finished
