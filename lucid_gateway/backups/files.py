"""The files of backups: written under another name until they are complete, and recognized by their first bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.utils import timezone

PARTIAL = ".partial"
SQLITE, MONGODB = "SQLite", "MongoDB"
FIRST_BYTES = {b"SQLite format 3\0": SQLITE, b"\x1f\x8b": MONGODB}


class BackupError(Exception):
    """A backup cannot be made or restored; the message is one line for the operator."""


def timestamp() -> str:
    """Return the present time in UTC for the name of a file, such as 20260131T120000Z."""
    return f"{timezone.now():%Y%m%dT%H%M%SZ}"


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield an empty file, which only the owner can read, to write to. It gets the name `path` if no error is raised,
    and is deleted otherwise.

    Raises BackupError if the file exists.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError as error:
        raise BackupError(f"{partial} exists: another backup is being made, or was interrupted") from error
    try:
        if path.exists():
            raise BackupError(f"{path} exists")
        yield partial
        flush(partial)
        partial.rename(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Return once the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_kind(path: Path, expected: str) -> None:
    """Raise BackupError unless the file looks like a complete backup of that kind of database; raise OSError."""
    if not path.exists():
        raise BackupError(f"{path} does not exist")
    if not path.is_file():
        raise BackupError(f"{path} is not a file")
    if path.name.endswith(PARTIAL):
        raise BackupError(f"{path} is the rest of a backup that was interrupted")
    with path.open("rb") as file:
        start = file.read(16)
    kind = next((kind for first, kind in FIRST_BYTES.items() if start.startswith(first)), None)
    if kind is None:
        raise BackupError(f"{path} is not a backup of the gateway")
    if kind != expected:
        raise BackupError(f"{path} is a backup of {kind}, but the gateway runs on {expected}")
