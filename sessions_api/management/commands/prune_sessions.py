"""Finishes the deletion of sessions of which the session-management cluster could not be told, and deletes those of
deleted accounts.
"""

import json
import random
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from proxy.choosing.closures import closures_cache
from sessions_api.deletion import finish_deletion, owner_of
from sessions_api.left_behind import begin_deletions, count_sessions, delete_policies
from sessions_api.models import Session

MAX_FAILURES = 5  # one after the other: then the cluster is down, and each more would cost its timeout


class Command(BaseCommand):
    help = (
        "Finish half-deleted sessions: tell the session-management cluster, then remove what is kept of them. "
        "Deletes the sessions and trust policies of deleted accounts, too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")
        parser.add_argument("--json", action="store_true", help="print the numbers as JSON")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        """Finish what can be, with a progress bar on a terminal; raise CommandError if some are left."""
        finished = 0 if dry_run else self.delete_all()
        pending = Session.objects.half_deleted().count() + count_sessions()
        numbers = {"finished": finished, "pending": pending}
        text = f"finished: {finished} sessions, pending: {pending}"
        self.stdout.write(json.dumps(numbers) if options["json"] else text)
        if pending and not dry_run:
            raise CommandError("the session-management cluster does not answer, or uploads are under way: try again")

    def delete_all(self) -> int:
        """Delete what deleted accounts left and finish what can be; return how many sessions were finished."""
        closures_cache.load()  # workers do all the time: a cluster in maintenance is told nothing
        begin_deletions()
        finished = self.finish_all()
        delete_policies()
        return finished

    def finish_all(self) -> int:
        """Finish each, until the cluster has failed too often in a row; return how many were finished."""
        rows = Session.objects.half_deleted()
        keys = list(rows.order_by().values_list("pk", flat=True))
        random.shuffle(keys)  # else some that always fail would keep all after them from their turn
        finished = failures = 0
        for key in tqdm(keys, desc="sessions", unit="session", disable=not sys.stderr.isatty()):
            session = rows.select_related("user").filter(pk=key).first()
            if session is None:  # somebody else has finished it meanwhile
                continue
            done = finish_deletion(session, by=owner_of(session.user))
            finished, failures = finished + done, 0 if done else failures + 1
            if failures == MAX_FAILURES:
                break
        return finished
