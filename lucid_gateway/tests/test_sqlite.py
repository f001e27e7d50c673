"""SQLite while another process has the write lock: only writers wait."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import OperationalError
from django.db.utils import load_backend
from pytest_django import DjangoDbBlocker

from lucid_gateway.settings import sqlite
from lucid_gateway.sqlite import base
from testing.gateway import Gateway

HELD_SECONDS, WRITERS = 1.5, 8


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the write lock of a database, as another process does in a long transaction."""
    with contextlib.closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def database(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[Any]:
    """A connection with the gateway's settings, to a database with one table."""
    with django_db_blocker.unblock():
        database = connection_to(tmp_path / "test.sqlite3")
        with database.cursor() as cursor:
            cursor.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        yield database
        database.close()


def connection_to(path: Path) -> Any:
    defaults = {"USER": "", "PASSWORD": "", "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False, "AUTOCOMMIT": True,
                "ATOMIC_REQUESTS": False, "TIME_ZONE": None}  # fmt: skip
    chosen = sqlite()
    return load_backend(chosen["ENGINE"]).DatabaseWrapper(defaults | chosen | {"NAME": path}, alias=str(path))


def insert(database: Any, number: int) -> None:
    with database.cursor() as cursor:
        cursor.execute("INSERT INTO numbers VALUES (%s)", [number])


def numbers(database: Any) -> list[int]:
    with database.cursor() as cursor:
        cursor.execute("SELECT number FROM numbers ORDER BY number")
        return [number for (number,) in cursor.fetchall()]


def test_a_write_waits_until_the_lock_is_free(database: Any) -> None:
    with ThreadPoolExecutor(1) as thread, contextlib.ExitStack() as lock:
        lock.enter_context(locked(database.settings_dict["NAME"]))
        database.inc_thread_sharing()
        writing = thread.submit(insert, database, 1)
        time.sleep(0.2)
        assert not writing.done()
        with contextlib.closing(connection_to(database.settings_dict["NAME"])) as reader:
            assert numbers(reader) == []  # readers do not wait

    assert numbers(database) == [1]


def test_a_write_that_waits_too_long_raises_a_database_error(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "WAIT_SECONDS", 0.1)
    with locked(database.settings_dict["NAME"]), pytest.raises(OperationalError, match="locked"):
        insert(database, 1)
    insert(database, 2)

    assert numbers(database) == [2]


def test_another_error_is_raised_without_waiting(database: Any) -> None:
    started = time.monotonic()
    with pytest.raises(OperationalError, match="no such table"), database.cursor() as cursor:
        cursor.execute("INSERT INTO letters VALUES (1)")

    assert time.monotonic() - started < base.WAIT_SECONDS / 2


def test_all_writers_in_many_threads_get_the_lock(database: Any) -> None:
    def write(first: int) -> None:
        mine = connection_to(database.settings_dict["NAME"])
        for number in range(first, first + 25):
            insert(mine, number)
        mine.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(0, 100, 25)))

    assert numbers(database) == list(range(100))


def test_requests_without_a_database_query_do_not_wait_for_writers(gateway: Gateway, gateway_token: str) -> None:
    headers = {"Authorization": f"Bearer {gateway_token}"}

    def rename(name: str) -> int:
        with requests.patch(f"{gateway.url}/users/me", json={"first_name": name}, headers=headers, timeout=30) as got:
            return got.status_code

    def forwarded() -> int:
        with requests.get(f"{gateway.url}/chain/info", headers=headers, timeout=30) as got:
            return got.status_code

    with ThreadPoolExecutor(WRITERS) as writers:
        with locked(gateway.env["SQLITE_PATH"]):
            writing = [writers.submit(rename, f"Ann {number}") for number in range(WRITERS)]
            until, served = time.monotonic() + HELD_SECONDS, []
            while time.monotonic() < until:
                served.append(forwarded())
            assert not any(one.done() for one in writing)
        assert [one.result() for one in writing] == [200] * WRITERS
    assert served == [200] * len(served)
    assert len(served) >= 10  # at most one if a writer blocked its worker
