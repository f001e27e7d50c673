"""manage.py backup on SQLite."""

import contextlib
import resource
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from lucid_gateway.backups import sqlite
from lucid_gateway.backups.files import BackupError, new_file

INSERT = "INSERT INTO {} (filler) VALUES (zeroblob(3000))"


@pytest.fixture
def database(tmp_path: Path, settings: Any) -> Path:
    """The gateway's database: about a megabyte in two tables, with WAL."""
    path = tmp_path / "gateway.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for table in ("first", "second"):
            connection.execute(f"CREATE TABLE {table} (filler)")
            connection.executemany(INSERT.format(table), [()] * 150)
        connection.commit()
    settings.ENV = settings.ENV.model_copy(update={"SQLITE_PATH": path})
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir()
    return path


def rows(path: Path, *tables: str) -> list[int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables]


@contextlib.contextmanager
def writing(write: Callable[[], object], pause: float = 0) -> Iterator[list[object]]:
    """Repeat the write in a thread meanwhile, with pauses; yield the list of what it returned or raised."""
    over, results = threading.Event(), []

    def write_on() -> None:
        while not over.wait(pause):
            try:
                results.append(write())
            except (OSError, sqlite3.Error) as error:
                results.append(error)

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()


def test_a_backup_is_one_file_that_only_its_owner_can_read(database: Path, folder: Path) -> None:
    call_command("backup", str(folder))

    (backup,) = folder.iterdir()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert rows(backup, "first", "second") == [150, 150]


def test_a_backup_has_one_state_although_others_write_between_its_steps(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PAGES", 1)

    with contextlib.closing(sqlite3.connect(database, timeout=0, check_same_thread=False)) as writer:

        def write() -> None:
            with writer:
                for table in ("first", "second"):
                    writer.execute(INSERT.format(table))

        with writing(write) as written:
            for number in range(5):
                sqlite.back_up(database, folder / f"{number}")
    assert written
    assert set(written) == {None}, "a writer had to wait"
    for backup in folder.iterdir():
        first, second = rows(backup, "first", "second")
        assert first == second


def test_an_interrupted_backup_leaves_nothing(database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        assert path.stat().st_size > 100_000
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sqlite, "check_integrity", interrupted)

    with pytest.raises(KeyboardInterrupt):
        call_command("backup", str(folder))
    assert list(folder.iterdir()) == []


def test_a_damaged_copy_is_no_backup(database: Path, folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    with database.open("r+b") as file:
        file.seek(200 * 4096)
        file.write(b"x" * 4096)

    with pytest.raises(CommandError, match="damaged"):
        call_command("backup", str(folder))
    assert list(folder.iterdir()) == []


def test_a_full_disk_is_one_line(database: Path, folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(CommandError, match=f"cannot write a backup to {folder}: .*disk") as caught:
            call_command("backup", str(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_missing_folder_and_one_that_cannot_be_written_are_one_line(database: Path, folder: Path) -> None:
    with pytest.raises(CommandError, match="is not a folder: create it first"):
        call_command("backup", str(folder / "missing"))
    with pytest.raises(CommandError, match="cannot write a backup to /proc: "):
        call_command("backup", "/proc")


def test_a_missing_database_is_not_created(database: Path, folder: Path) -> None:
    database.unlink()

    with pytest.raises(CommandError, match="there is no database at"):
        call_command("backup", str(folder))
    assert not database.exists()


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")

    with pytest.raises(BackupError, match="exists"), new_file(kept):
        pytest.fail("the file could be written")
    with new_file(tmp_path / "new"), pytest.raises(BackupError, match="another backup"), new_file(tmp_path / "new"):
        pytest.fail("two backups wrote to the same file")
    assert kept.read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "new"}
