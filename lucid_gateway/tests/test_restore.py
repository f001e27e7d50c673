"""manage.py restore on SQLite."""

import contextlib
import gzip
import itertools
import json
import shutil
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from lucid_gateway.backups import sqlite
from lucid_gateway.backups.files import BackupError
from lucid_gateway.tests.conftest import PASSWORD, Service
from testing.gateway import prepared_database, running_gateway
from testing.mail import running_smtp_server
from testing.manage import manage
from testing.servers import running_redis


@contextlib.contextmanager
def writing(write: Callable[[], object], pause: float) -> Iterator[list[object]]:
    """Repeat the write in a thread meanwhile, with pauses; yield the list of what it returned or raised."""
    over, results = threading.Event(), []

    def write_on() -> None:
        while not over.wait(pause):
            try:
                results.append(write())
            except OSError as error:
                results.append(error)

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()


def test_a_restored_backup_ends_all_tokens_and_lets_users_log_in_again(tmp_path: Path) -> None:
    database = tmp_path / "gateway.sqlite3"
    with running_redis() as redis, running_smtp_server() as (mailbox, port):
        settings = {
            "SQLITE_PATH": str(database), "REDIS_URL": redis.url, "TRUSTED_PROXIES": "127.0.0.1",
            "EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(port),
        }  # fmt: skip
        with running_gateway(**settings) as gateway:
            service = Service(gateway, mailbox)
            before = service.register("before")
            issued = [service.log_in(before, 1)]
            numbers = itertools.count()
            with writing(lambda: register(service, f"meanwhile-{next(numbers)}"), pause=0.1) as statuses:
                backup = json.loads(gateway.manage("backup", str(tmp_path), "--json"))["file"]
            assert {201} <= set(statuses) <= {201, 429}
            issued.append(service.log_in(service.register("after"), 1))
            with pytest.raises(subprocess.CalledProcessError) as refused:
                gateway.manage("restore", backup, "--yes")
            assert "stop all gateways first" in refused.value.stderr
            assert refused.value.stderr.count("\n") == 1

        said = manage(gateway.env, "restore", backup, "--yes")
        (kept,) = tmp_path.glob("gateway.sqlite3.before-restore-*")
        assert f"{backup} is restored. The old database is {kept}." in said
        assert "tokens and" in said  # after_restore
        assert (before in emails(database), "after@example.org" in emails(database)) == (True, False)
        assert "after@example.org" in emails(kept)

        with running_gateway(**settings) as gateway:
            service = Service(gateway, mailbox)
            assert [service.error("GET", "/users/me", token=pair["access_token"]) for pair in issued] == [
                "401 2003"
            ] * 2
            again = service.log_in(before, 2)
            assert service.call("GET", "/users/me", token=again["access_token"])[0] == 200


def register(service: Service, name: str) -> int:
    """Open an account and return the status."""
    account = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
    return service.call("POST", "/users", account)[0]


def emails(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {email for (email,) in connection.execute("SELECT email FROM accounts_user")}


@pytest.fixture
def database(tmp_path: Path, settings: Any) -> Path:
    """The gateway's database, with a table that no backup has."""
    path = tmp_path / "gateway.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE newer (filler)")
    path.chmod(0o640)
    settings.ENV = settings.ENV.model_copy(update={"SQLITE_PATH": path})
    return path


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    path = tmp_path / "backup.sqlite3"
    sqlite.back_up(prepared_database()[0], path)
    return path


def tables(path: Path) -> set[str]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def test_the_old_database_is_kept_and_the_new_one_has_its_permissions(database: Path, backup: Path) -> None:
    kept = sqlite.restore(backup, database)

    assert kept is not None
    assert tables(kept) == {"newer"}
    assert "accounts_user" in tables(database)
    assert stat.S_IMODE(database.stat().st_mode) == 0o640
    assert set(database.parent.iterdir()) == {database, backup, kept}


def test_a_damaged_database_is_replaced_and_its_wal_is_not_applied_to_the_backup(database: Path, backup: Path) -> None:
    database.write_bytes(b"damaged")
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").write_bytes(b"stale")

    kept = sqlite.restore(backup, database)
    assert kept is not None
    assert (kept.read_bytes(), Path(f"{kept}-wal").read_bytes()) == (b"damaged", b"stale")
    assert "accounts_user" in tables(database)
    assert not Path(f"{database}-wal").exists()


def test_a_lost_database_is_restored(database: Path, backup: Path) -> None:
    database.unlink()

    assert sqlite.restore(backup, database) is None
    assert "accounts_user" in tables(database)


def test_a_database_in_use_is_not_replaced(database: Path, backup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("SELECT * FROM newer").fetchall()

        with pytest.raises(BackupError, match="in use: stop all gateways"):
            sqlite.restore(backup, database)
    assert tables(database) == {"newer"}
    assert set(database.parent.iterdir()) == {database, backup}


def test_an_answer_other_than_yes_changes_nothing(
    database: Path, backup: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda prompt: "no")

    with pytest.raises(CommandError, match="nothing was changed"):
        call_command("restore", str(backup))
    assert f"{database} is replaced by {backup}" in capsys.readouterr().out
    assert tables(database) == {"newer"}


def missing(backup: Path) -> None:
    backup.unlink()


def a_folder(backup: Path) -> None:
    backup.unlink()
    backup.mkdir()


def text(backup: Path) -> None:
    backup.write_text("a letter")


def of_mongodb(backup: Path) -> None:
    backup.write_bytes(gzip.compress(b"dump"))


def cut_short(backup: Path) -> None:
    with backup.open("r+b") as file:
        file.truncate(backup.stat().st_size // 2)


def with_a_wal(backup: Path) -> None:
    Path(f"{backup}-wal").write_bytes(b"the latest commits")


def of_another_program(backup: Path) -> None:
    change(backup, "DELETE FROM django_migrations WHERE app = 'accounts'")


def without_migrations(backup: Path) -> None:
    change(backup, "DROP TABLE django_migrations")


def of_a_later_release(backup: Path) -> None:
    change(backup, "INSERT INTO django_migrations (app, name, applied) VALUES ('accounts', '9999_later', '')")


def change(backup: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (missing, "does not exist"),
        (a_folder, "is not a file"),
        (text, "is not a backup of the gateway"),
        (of_mongodb, "is a backup of MongoDB, but the gateway runs on SQLite"),
        (cut_short, "is damaged"),
        (with_a_wal, "is incomplete: a part of it is in backup.sqlite3-wal"),
        (of_another_program, "is the database of another program"),
        (without_migrations, "not a backup of the gateway"),
        (of_a_later_release, "is of a later release, which has the migration accounts.9999_later"),
    ],
)
def test_a_bad_backup_is_refused_in_one_line(
    database: Path, backup: Path, spoil: Callable[[Path], None], line: str
) -> None:
    spoil(backup)

    with pytest.raises(CommandError, match=line) as caught:
        call_command("restore", str(backup), "--yes")
    assert "\n" not in str(caught.value)
    assert tables(database) == {"newer"}
    assert not list(database.parent.glob("gateway.sqlite3.*"))


def test_the_rest_of_an_interrupted_backup_and_the_database_itself_are_refused(database: Path, backup: Path) -> None:
    partial = Path(shutil.copyfile(backup, f"{backup}.partial"))

    with pytest.raises(CommandError, match="is the rest of a backup that was interrupted"):
        call_command("restore", str(partial), "--yes")
    with pytest.raises(CommandError, match="is the database itself"):
        call_command("restore", str(database), "--yes")
