"""How much the database reads for something: a measure that does not depend on how busy the machine is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connection

from testing.profiler import profiled

STEPS = 100  # of SQLite's virtual machine, between two calls of the counter


@dataclass
class Work:
    """On MongoDB the examined keys and documents, and the plans of those queries that examined the most. On SQLite the
    steps of its virtual machine, to a hundred: about ten for a row.
    """

    keys: int = 0
    documents: int = 0
    steps: int = 0
    plans: list[str] = field(default_factory=list)

    @property
    def amount(self) -> int:
        return self.keys + self.documents + self.steps


@contextmanager
def database_work() -> Iterator[Work]:
    """Yield the work of this connection's database; it is known when the block ends."""
    work = Work()
    yield from (mongodb_work if settings.ON_MONGODB else sqlite_work)(work)


def sqlite_work(work: Work) -> Iterator[Work]:
    """Count the steps of this connection."""

    def count() -> None:
        work.steps += STEPS

    connection.ensure_connection()
    raw: Any = connection.connection
    raw.set_progress_handler(count, STEPS)
    try:
        yield work
    finally:
        raw.set_progress_handler(None, STEPS)


def mongodb_work(work: Work) -> Iterator[Work]:
    """Read what the profiler says about all queries to the database."""
    with profiled() as entries:
        yield work
    note(work, entries)


def note(work: Work, entries: list[dict[str, Any]]) -> None:
    """Add up the entries of the profiler."""
    entries.sort(key=lambda entry: -entry.get("docsExamined", 0) - entry.get("keysExamined", 0))
    for entry in entries:
        keys, documents = entry.get("keysExamined", 0), entry.get("docsExamined", 0)
        work.keys, work.documents = work.keys + keys, work.documents + documents
        sort = ", sort" if entry.get("hasSortStage") else ""
        work.plans.append(f"{keys:,} keys, {documents:,} documents: {entry.get('planSummary')}{sort}")
