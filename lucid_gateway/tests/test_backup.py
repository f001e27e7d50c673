"""manage.py backup on SQLite."""

import contextlib
import resource
import sqlite3
import stat
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


def test_a_backup_is_one_file_that_only_its_owner_can_read(database: Path, folder: Path) -> None:
    call_command("backup", str(folder))

    (backup,) = folder.iterdir()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert rows(backup, "first", "second") == [150, 150]


def test_writes_between_the_steps_of_a_backup_neither_wait_nor_change_it_nor_start_it_again(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []

    def write(*_: int) -> None:
        writes.append(1)
        assert len(writes) < 1000, "the backup started again"
        with writer:  # it fails if it would have to wait
            for table in ("first", "second"):
                writer.execute(INSERT.format(table))

    class Written(sqlite3.Connection):
        """A connection with a write by another one after each step of its backups."""

        def backup(self, target: sqlite3.Connection, **_: Any) -> None:
            super().backup(target, pages=1, progress=write)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite.sqlite3, "connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Written))
    with contextlib.closing(connect(database, timeout=0)) as writer:
        sqlite.back_up(database, folder / "new")
    monkeypatch.undo()
    assert len(writes) > 100
    assert rows(folder / "new", "first", "second") == [150, 150]


def test_an_interrupted_backup_leaves_nothing(database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        assert path.stat().st_size > 100_000
        raise KeyboardInterrupt  # as Ctrl-C does; a process in the background may ignore the signal itself

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
