"""Backups of SQLite, made while gateways write, and the replacement of the database by one."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db.migrations.loader import MigrationLoader

from lucid_gateway.backups.files import BackupError, flush, new_file, timestamp
from lucid_gateway.sqlite.base import is_busy

PAGES = 1000  # in one step of a backup; between steps Ctrl-C takes effect
LOCK_SECONDS = 5.0
BESIDE = ("-wal", "-shm", "-journal")  # files that SQLite keeps beside a database


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection to an existing database, without the transactions that Python begins itself."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS, isolation_level=None)


def back_up(database: Path, target: Path) -> None:
    """Copy the database to the new file `target`; raise BackupError, OSError or sqlite3.Error."""
    if not database.exists():
        raise BackupError(f"there is no database at {database}")
    with new_file(target) as partial:
        copy_snapshot(database, partial)
        check_integrity(partial)


def copy_snapshot(database: Path, target: Path) -> None:
    """Copy the database as it is now. The open transaction keeps its state, so that writes of others neither wait nor
    let the copy start again.
    """
    with closing(connect(database)) as source, closing(connect(target)) as copy:
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_master").fetchone()
        copy.execute("PRAGMA journal_mode=OFF")
        source.backup(copy, pages=PAGES)


def check_integrity(path: Path) -> None:
    """Raise BackupError if the database is damaged; raise sqlite3.Error. Turns it into a single file, without a WAL."""
    with closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise BackupError(f"the copy is damaged: {' '.join(found.split())}")


def restore(backup: Path, database: Path) -> Path | None:
    """Replace the database by the backup. Return where the old database is kept, or None if there was none.

    Raises BackupError, OSError or sqlite3.Error before anything has changed.
    """
    check_is_single_file(backup)
    if database.exists() and backup.samefile(database):
        raise BackupError(f"{backup} is the database itself")
    copy = database.with_name(f"{database.name}.restored-{timestamp()}")
    try:
        with new_file(copy) as partial:
            shutil.copyfile(backup, partial)
            check_is_ours(partial, backup)
            take_owner(database, partial)
        return replace(database, copy)
    finally:
        copy.unlink(missing_ok=True)


def check_is_single_file(backup: Path) -> None:
    """Raise BackupError if a part of the database is in a file beside it, as when its files were simply copied."""
    for suffix in ("-wal", "-journal"):
        beside = backup.with_name(backup.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise BackupError(f"{backup} is incomplete: a part of it is in {beside.name}")


def check_is_ours(copy: Path, backup: Path) -> None:
    """Raise BackupError if the copy of a backup is damaged, of another program or of a later release."""
    try:
        check_integrity(copy)
        with closing(connect(copy)) as connection:
            applied = set(connection.execute("SELECT app, name FROM django_migrations"))
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{backup} is damaged, or not a backup of the gateway ({error})") from error
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    known = set(loader.disk_migrations)
    apps = {app for app, _ in known}
    if not any(app == "accounts" for app, _ in applied):
        raise BackupError(f"{backup} is the database of another program")
    if later := sorted(f"{app}.{name}" for app, name in applied - known if app in apps):
        raise BackupError(f"{backup} is of a later release, which has the migration {later[0]}")


def take_owner(database: Path, copy: Path) -> None:
    """Give the copy the owner and the permissions of the database, which the gateway must be able to open."""
    if database.exists():
        old, new = database.stat(), copy.stat()
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.chown(copy, old.st_uid, old.st_gid)
        shutil.copymode(database, copy)


def replace(database: Path, copy: Path) -> Path | None:
    """Rename the copy to the database; keep the old one beside it, and return where. Raises BackupError if it is in
    use.
    """
    if not database.exists():
        for suffix in BESIDE:
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        copy.rename(database)
        return None
    kept = database.with_name(f"{database.name}.before-restore-{timestamp()}")
    with exclusive(database):
        os.link(database, kept)
        for suffix in BESIDE:  # of a database that is too damaged to be locked
            beside = database.with_name(database.name + suffix)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + suffix))
        copy.rename(database)
    flush(database.parent)
    return kept


@contextmanager
def exclusive(database: Path) -> Iterator[None]:
    """Move the WAL into the database, and let no other process use it meanwhile. Raises BackupError if one does.

    A database that is too damaged for that is not locked: its damage may be the reason for the restore.
    """
    with closing(connect(database)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and is_busy(error):
                raise BackupError("the database is in use: stop all gateways and commands") from error
        yield
