"""Django's backend for SQLite, with a wait for the write lock that stops nobody else.

SQLite's own wait (`sqlite3_busy_timeout`) sleeps in C, and with it all greenlets of a worker. Here the lock is asked
for without a wait, and asked for again after a sleep in which a worker serves its other requests.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from django.db.backends.sqlite3.base import DatabaseWrapper as SQLiteDatabaseWrapper
from django.db.backends.sqlite3.base import SQLiteCursorWrapper

P = ParamSpec("P")
R = TypeVar("R")
WAIT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.025


def patiently(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return what the call returns, once it gets the lock; raise sqlite3.OperationalError after five seconds without.

    A statement, or a commit, that does not get the lock has done nothing.
    """
    deadline, pause = time.monotonic() + WAIT_SECONDS, FIRST_PAUSE
    while True:
        try:
            return call(*args, **kwargs)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Return whether another connection holds the lock. A transaction that began to read before the other one wrote
    (SQLITE_BUSY_SNAPSHOT) never gets it.
    """
    code: int = getattr(error, "sqlite_errorcode", 0)  # its lowest byte is the primary result code
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


class PatientConnection(sqlite3.Connection):
    """A connection that waits so; its cursors are Django's."""

    def execute(self, *args: Any) -> sqlite3.Cursor:
        """Execute a statement."""
        return patiently(super().execute, *args)

    def commit(self) -> None:
        """Commit."""
        patiently(super().commit)


class PatientCursor(SQLiteCursorWrapper):
    """A cursor that waits so. `executemany` does not wait: half of it may be done when it meets the lock."""

    def execute(self, query: str, params: Any = None) -> Any:
        """Execute a statement."""
        return patiently(super().execute, query, params)


class DatabaseWrapper(SQLiteDatabaseWrapper):
    """A connection to SQLite that stops no other greenlet."""

    def get_connection_params(self) -> dict[str, Any]:
        """Return the arguments of sqlite3.connect."""
        return super().get_connection_params() | {"factory": PatientConnection, "timeout": 0}

    def create_cursor(self, name: str | None = None) -> PatientCursor:
        """Return a cursor."""
        cursor: PatientCursor = self.connection.cursor(factory=PatientCursor)
        return cursor
