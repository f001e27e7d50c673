"""Writes the kept requests of a worker to the database, in batches and beside the requests."""

import logging
import threading
from functools import cache

from django.db import DatabaseError, IntegrityError, InterfaceError, transaction

from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.pruning import PruneEachMinute
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.server.kept_requests import LEFT_OUT, KeptRequests, kept_requests
from lucid_gateway.server.samples import count

logger = logging.getLogger(__name__)
EVERY_SECONDS = 2.0  # often enough for people; each round opens a connection to the database
BATCH = 50
MAX_WAITING = 1_000  # rows that wait for the database
NOT_WRITTEN = "database"


class Writer:
    """Moves requests from the buffer of a worker to the database. Rows that cannot be written wait for the next round;
    of these the newest are kept.
    """

    def __init__(self, source: KeptRequests) -> None:
        self.source = source
        self.waiting: list[KeptRequest] = []
        self.lock = threading.Lock()
        self.failing = False

    def write(self) -> None:
        """Write everything that the buffer holds. A failure of the database is logged once."""
        with self.lock:
            self.waiting += [row_of(finished) for finished in self.source.drain()]
            try:
                while self.waiting:
                    insert(self.waiting[:BATCH])
                    del self.waiting[:BATCH]
            except (DatabaseError, InterfaceError) as error:
                self.note_failure(error)
            else:
                self.failing = False

    def note_failure(self, error: Exception) -> None:
        if not self.failing:
            logger.warning("requests for the explorer are not written", extra={"error": type(error).__name__})
        self.failing = True
        too_many = max(0, len(self.waiting) - MAX_WAITING)
        if too_many:
            count(LEFT_OUT, NOT_WRITTEN, too_many)
            del self.waiting[:too_many]


def insert(rows: list[KeptRequest]) -> None:
    """Insert the rows; raise django.db.Error. After a failure, some of them may have been inserted already."""
    try:
        with transaction.atomic():
            KeptRequest.objects.bulk_create(rows)
    except IntegrityError:
        written = set(KeptRequest.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True))
        KeptRequest.objects.bulk_create([row for row in rows if row.pk not in written])


@cache
def own_writer() -> Writer:
    """Return the writer of this process."""
    return Writer(kept_requests)


def start_writing(*, prunes: bool) -> None:
    """Start the loops of a worker; `prunes` is for one worker of each gateway."""
    if kept_requests.enabled:
        Loop("explorer", own_writer().write, every=EVERY_SECONDS).start()
        if prunes:
            Loop("explorer-pruning", PruneEachMinute().run, every=PruneEachMinute.every_seconds).start()


def finish_writing() -> None:
    """Write what is left when the worker ends."""
    if kept_requests.enabled:
        own_writer().write()
