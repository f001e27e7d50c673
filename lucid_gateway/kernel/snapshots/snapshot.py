"""Tables that each worker keeps in memory, and reads again when their revision has changed (decision 0025).

A writer changes the revision before and after its write. A worker reads the revision before the table, so that it
notices a write that its read missed: the revision changes once more.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from lucid_gateway.kernel.snapshots.models import Revision

# Workers notice writes by other programs, and those of a writer that died halfway, after this time.
FULL_READ_SECONDS = 60.0
State = TypeVar("State")


class Revisions:
    """The revisions of all tables, which this process reads with one query."""

    def __init__(self) -> None:
        self.known: dict[str, uuid.UUID] = {}
        self.read_at = float("-inf")

    def read(self) -> None:
        """Read the revisions; raise django.db.Error."""
        asked_at = time.monotonic()
        self.known = dict(Revision.objects.values_list("table", "value"))
        self.read_at = asked_at


revisions = Revisions()


class Snapshot(Generic[State]):
    """A table as this process last read it; `empty` before the first read. `read_at` is the monotonic time up to which
    the snapshot is known to be current.
    """

    def __init__(self, table: str, read: Callable[[], State], empty: State) -> None:
        self.table, self.read, self.current = table, read, empty
        self.read_at: float | None = None
        self.revision: uuid.UUID | None = None
        self.full_read_at = 0.0

    def load(self) -> None:
        """Read the table now; raise django.db.Error."""
        asked_at = time.monotonic()
        self.take_over(self.read())
        self.read_at, self.full_read_at = asked_at, asked_at + FULL_READ_SECONDS

    def renew(self) -> None:
        """Read the table if its revision has changed or a minute has passed; raise django.db.Error."""
        revision = revisions.known.get(self.table)
        if revision != self.revision or time.monotonic() >= self.full_read_at:
            self.load()
            self.revision = revision
        else:
            self.read_at = max(self.read_at or 0.0, revisions.read_at)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Write to the table in this context. This worker reads it when the context ends, others within two seconds."""
        self.change_revision()
        try:
            yield
        finally:
            self.change_revision()  # even if the write failed: the database may have applied it before it was lost
        self.load()

    def change_revision(self) -> None:
        value = uuid.uuid4()
        if not Revision.objects.filter(table=self.table).update(value=value):
            Revision.objects.get_or_create(table=self.table, defaults={"value": value})

    def state(self) -> State:
        """Return the state for `lucid_gateway.kernel.handover`."""
        return self.current

    def take_over(self, state: State) -> None:
        """Keep the state that another worker read."""
        self.current = state
