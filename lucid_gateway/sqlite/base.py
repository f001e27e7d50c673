"""Django's backend for SQLite, with a wait for the write lock that does not block other requests, and conditions on
flags that an index finds.

SQLite's own wait (`sqlite3_busy_timeout`) sleeps in C and blocks all greenlets of a worker. This backend tries to get
the lock without waiting, sleeps while the worker serves other requests, and tries again.
"""

import sqlite3
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from django.db.backends.sqlite3.base import DatabaseWrapper as SQLiteDatabaseWrapper
from django.db.backends.sqlite3.base import SQLiteCursorWrapper
from django.db.backends.sqlite3.operations import DatabaseOperations
from django.db.models.expressions import Col

P = ParamSpec("P")
R = TypeVar("R")
WAIT_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.025


def retry_while_locked(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Return the call's result once it gets the lock; raise sqlite3.OperationalError after five seconds.

    A retry is safe, because a statement or a commit that does not get the lock has no effect.
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
    """Return whether another connection has the lock. SQLITE_BUSY_SNAPSHOT does not count: a transaction that began to
    read before another one wrote never gets the lock.
    """
    code: int = getattr(error, "sqlite_errorcode", 0)  # the lowest byte is the primary result code
    return code & 0xFF == sqlite3.SQLITE_BUSY and code != sqlite3.SQLITE_BUSY_SNAPSHOT


class PatientConnection(sqlite3.Connection):
    """A connection that retries while the database is locked; Django chooses the class of its cursors."""

    def execute(self, *args: Any) -> sqlite3.Cursor:
        return retry_while_locked(super().execute, *args)

    def commit(self) -> None:
        retry_while_locked(super().commit)


class PatientCursor(SQLiteCursorWrapper):
    """A cursor that retries while the database is locked, except in `executemany`, of which a part may be done."""

    def execute(self, query: str, params: Any = None) -> Any:
        return retry_while_locked(super().execute, query, params)


class Operations(DatabaseOperations):
    def conditional_expression_supported_in_where_clause(self, expression: Any) -> bool:
        """Return False for a column, which is then compared with 1 or 0: SQLite finds no rows by the index of a bare
        column.
        """
        return not isinstance(expression, Col) and super().conditional_expression_supported_in_where_clause(expression)


class DatabaseWrapper(SQLiteDatabaseWrapper):
    ops_class = Operations

    def get_connection_params(self) -> dict[str, Any]:
        return super().get_connection_params() | {"factory": PatientConnection, "timeout": 0}

    def create_cursor(self, name: str | None = None) -> PatientCursor:
        cursor: PatientCursor = self.connection.cursor(factory=PatientCursor)
        return cursor
