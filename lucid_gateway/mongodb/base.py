"""Django's backend for MongoDB, which translates all errors of the driver into Django's.

django-mongodb-backend translates most errors itself, but not a BulkWriteError without a duplicate key (an insert that
no majority has acknowledged), nor errors while the rest of a result is read (a lost cursor).
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

from django.db import DatabaseError, IntegrityError
from django_mongodb_backend.base import DatabaseWrapper as MongoDatabaseWrapper
from pymongo.command_cursor import CommandCursor
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from lucid_gateway.mongodb.compiler import Operations

DUPLICATE_KEY = 11000
# The backend's methods for data. Its schema changes are already translated, and it relies on some errors of the driver
# to find out what a server supports.
TRANSLATED = frozenset({
    "aggregate", "estimated_document_count", "insert_many", "update_many", "delete_many", "next",
})  # fmt: skip


class TranslatedErrors:
    """A context that turns an error of the driver into DatabaseError, or into IntegrityError for a duplicate key."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PyMongoError):
            raise (IntegrityError if is_duplicate(error) else DatabaseError)(str(error)) from error


translated_errors = TranslatedErrors()


def is_duplicate(error: PyMongoError) -> bool:
    """Return whether a write was refused because another row has the same unique value."""
    if isinstance(error, BulkWriteError):
        return any(failed["code"] == DUPLICATE_KEY for failed in (error.details or {}).get("writeErrors", ()))
    return isinstance(error, DuplicateKeyError)


class Translated:
    """A collection or a cursor of the driver, whose reads and writes run in `translated_errors`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        return translated(value) if name in TRANSLATED else value

    def __iter__(self) -> Iterator[Any]:
        with translated_errors:
            yield from self.inner


def translated(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that translates errors of the call, and of the cursor that it may return."""

    def translating(*args: Any, **kwargs: Any) -> Any:
        with translated_errors:
            result = call(*args, **kwargs)
        return Translated(result) if isinstance(result, CommandCursor) else result

    return translating


def compares(operator: str) -> Callable[[str, Any], dict[str, Any]]:
    return lambda field, value: {field: {operator: value}}


class DatabaseWrapper(MongoDatabaseWrapper):  # type: ignore[misc]  # the backend ships no types
    ops_class = Operations
    # The backend adds that the field exists and is not null, and then MongoDB reads each document. That is superfluous:
    # `$lt` finds only values of the type of its operand, and a comparison with null finds missing fields, too.
    mongo_operators = MongoDatabaseWrapper.mongo_operators | {
        "lt": compares("$lt"),
        "lte": compares("$lte"),
        "isnull": lambda field, is_null: {field: None if is_null else {"$ne": None}},
    }

    def connect(self) -> None:
        """Connect; raise DatabaseError if no server answers."""
        with translated_errors:
            super().connect()

    def get_collection(self, name: str, **kwargs: Any) -> Translated:
        return Translated(super().get_collection(name, **kwargs))

    def server_time(self) -> datetime:
        """Return the time of the primary, in UTC without a zone; raise DatabaseError."""
        with translated_errors:
            local_time: datetime = self.database.command("hello")["localTime"]
        return local_time
