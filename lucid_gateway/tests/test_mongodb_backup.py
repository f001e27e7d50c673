"""manage.py backup and restore on MongoDB, with stand-ins for its tools that record how they were called."""

import gzip
import os
import stat
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

import bson
import pymongo
import pytest

from lucid_gateway.backups import mongodb
from lucid_gateway.backups.files import MONGODB, BackupError, check_kind
from lucid_gateway.backups.mongodb import END, MAGIC, uri_of_deployment
from testing.manage import manage
from testing.servers import free_port

# It gets its configuration as the real tools do: from the file that an argument names.
TOOL = """#!/bin/sh
for argument; do
    echo "$argument" >> "$0.arguments"
    case $argument in
        --config=*) cat "${argument#--config=}" > "$0.config" ;;
        --archive=*) archive=${argument#--archive=} ;;
    esac
done
AFTERWARDS
"""
DUMP = 'cat "$(dirname "$0")/archive" > "$archive"'
PASSWORD = "p@ss/word"
DATABASE = "lucid"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins, which is in PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    (path / "archive").write_bytes(archive_of(DATABASE))
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    install(path, "mongodump", DUMP)
    install(path, "mongorestore", ":")
    return path


def install(tools: Path, name: str, afterwards: str) -> None:
    (tools / name).write_text(TOOL.replace("AFTERWARDS", afterwards))
    (tools / name).chmod(0o755)


def archive_of(database: str) -> bytes:
    """Return an archive as mongodump begins it, of two collections without documents."""
    listed = [{"db": database, "collection": name, "metadata": "{}"} for name in ("accounts_user", "django_migrations")]
    prelude = b"".join(map(bson.encode, [{"version": "0.1"}, *listed]))
    return gzip.compress(MAGIC + prelude + END + os.urandom(5000))


@pytest.fixture
def env() -> Mapping[str, str]:
    """The settings of a gateway on a MongoDB that is not running."""
    uri = f"mongodb://lucid:p%40ss%2Fword@127.0.0.1:{free_port()}/accounts?replicaSet=rs0"
    return os.environ | {"MONGODB_URI": uri, "MONGODB_DATABASE": DATABASE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir()
    return path


def arguments(tools: Path, name: str) -> list[str]:
    return (tools / f"{name}.arguments").read_text().splitlines()


def refusal(env: Mapping[str, str], *arguments: str) -> str:
    """Return the line with which the command fails."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        manage(env, *arguments)
    lines: list[str] = caught.value.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_backup_is_dumped_with_the_oplog_and_no_password_is_among_the_arguments(
    tools: Path, env: Mapping[str, str], folder: Path
) -> None:
    said = manage(env, "backup", str(folder))

    (backup,) = folder.iterdir()
    assert f"{backup} is complete" in said
    assert backup.read_bytes() == (tools / "archive").read_bytes()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert arguments(tools, "mongodump") == ["--oplog", "--gzip", f"--archive={backup}.partial", "--config=/dev/stdin"]
    host = env["MONGODB_URI"].partition("@")[2].partition("/")[0]
    assert (tools / "mongodump.config").read_text() == (
        f'{{"uri": "mongodb://lucid:p%40ss%2Fword@{host}/?replicaSet=rs0&authSource=accounts"}}'
    )


def test_a_restore_drops_collections_and_replays_the_oplog_then_says_what_is_left_to_do(
    tools: Path, env: Mapping[str, str]
) -> None:
    backup = tools / "archive"

    line = refusal(env, "restore", str(backup), "--yes")
    assert arguments(tools, "mongorestore") == [
        "--drop", "--oplogReplay", "--gzip", f"--archive={backup}", "--config=/dev/stdin",
    ]  # fmt: skip
    assert "the backup is in place, but not safe to serve from yet" in line  # the database is not running
    assert "run migrate and after_restore" in line


@pytest.mark.parametrize("tool", ["mongodump", "mongorestore"])
def test_a_missing_tool_is_named_with_its_package(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BackupError, match=f"^{tool} is not installed: install the package mongodb-database-tools$"):
        mongodb.find(tool)


def test_a_failed_dump_leaves_nothing_and_its_error_lacks_the_password(tools: Path, folder: Path) -> None:
    failure = f"{DUMP}; echo first >&2; echo 'Failed: lucid:p%40ss%2Fword or {PASSWORD}: no space left' >&2; exit 1"
    install(tools, "mongodump", failure)

    with pytest.raises(BackupError, match=r"^mongodump failed: Failed: lucid:\*\*\* or \*\*\*: no space left$"):
        mongodb.back_up("mongodb://lucid:p%40ss%2Fword@127.0.0.1", DATABASE, folder / "new")
    assert list(folder.iterdir()) == []


def test_a_failed_restore_warns_of_what_it_has_left(tools: Path) -> None:
    install(tools, "mongorestore", "echo 'Failed: connection closed' >&2; exit 1")

    with pytest.raises(BackupError, match="failed: Failed: connection closed; do not start a gateway before"):
        mongodb.restore(tools / "archive", "mongodb://127.0.0.1")


def test_a_backup_that_is_killed_leaves_a_partial_file_that_cannot_be_restored(
    tools: Path, env: Mapping[str, str], folder: Path
) -> None:
    install(tools, "mongodump", f"{DUMP}; kill -KILL $PPID")
    with pytest.raises(subprocess.CalledProcessError):
        manage(env, "backup", str(folder))

    (left,) = folder.iterdir()
    assert left.name.endswith(".mongodb.gz.partial")
    assert left.stat().st_size
    with pytest.raises(BackupError, match="is the rest of a backup that was interrupted"):
        check_kind(left, MONGODB)


def test_a_bad_archive_is_refused_before_anything_is_dropped(tools: Path, env: Mapping[str, str]) -> None:
    (tools / "archive").write_bytes(archive_of("shop"))

    assert "does not contain the database lucid" in refusal(env, "restore", str(tools / "archive"), "--yes")
    assert not (tools / "mongorestore.arguments").exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (gzip.compress(b"a letter"), "is not a backup of MongoDB"),
        (gzip.compress(MAGIC + b"garbage" * 99), "is damaged or incomplete"),
        (archive_of(DATABASE)[:-900], "is damaged or incomplete"),
        (b"\x1f\x8bgarbage", "is damaged or incomplete"),
    ],
    ids=["letter", "garbage", "cut short", "not gzip"],
)
def test_a_damaged_archive_is_one_line(tmp_path: Path, content: bytes, line: str) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(content)

    with pytest.raises(BackupError, match=line) as caught:
        mongodb.check_archive(backup, DATABASE)
    assert "\n" not in str(caught.value)


def test_a_backup_of_another_kind_is_refused(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.write_bytes(b"SQLite format 3\0")

    with pytest.raises(BackupError, match="is a backup of SQLite, but the gateway runs on MongoDB"):
        check_kind(backup, MONGODB)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mongodb://a,b", "mongodb://a,b/?"),
        ("mongodb://a/lucid", "mongodb://a/?"),
        ("mongodb://u:p@a/lucid", "mongodb://u:p@a/?authSource=lucid"),
        ("mongodb://u:p@a/lucid?authSource=admin", "mongodb://u:p@a/?authSource=admin"),
        ("mongodb+srv://u:p@a/lucid?w=majority", "mongodb+srv://u:p@a/?w=majority"),
    ],
)
def test_the_tools_get_the_uri_of_the_deployment_and_not_of_a_database(uri: str, expected: str) -> None:
    assert uri_of_deployment(uri) == expected


@pytest.mark.mongodb
@pytest.mark.django_db
def test_a_restored_database_is_migrated_and_its_credentials_end(tools: Path) -> None:
    env = os.environ | {"MONGODB_DATABASE": f"restored_{uuid.uuid4().hex[:8]}"}
    (tools / "archive").write_bytes(archive_of(env["MONGODB_DATABASE"]))

    said = manage(env, "restore", str(tools / "archive"), "--yes")
    assert f"{tools / 'archive'} is restored." in said
    assert "signs now; " in said  # after_restore
    with pymongo.MongoClient[dict[str, object]](os.environ["MONGODB_URI"]) as client:
        assert client[env["MONGODB_DATABASE"]]["accounts_signingkey"].count_documents({"state": "active"}) == 1
        client.drop_database(env["MONGODB_DATABASE"])
