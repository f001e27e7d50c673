"""POST /auth/refresh while the database fails: a 503 uses up no refresh token, so that the retry succeeds."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from accounts.models import IssuedToken
from accounts.tests.test_refresh import let_time_pass, refresh, status_with
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient
from lucid_gateway.audit.models import AuditEvent

pytestmark = pytest.mark.usefixtures("transactional_db")
TABLE = IssuedToken._meta.db_table
SQLITE_WRITES = {"insert": sqlite3.SQLITE_INSERT, "update": sqlite3.SQLITE_UPDATE}
REFUSED = {"errorCode": 96}  # OperationFailed: nothing was written
NO_MAJORITY = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}  # but it is applied
FULL = {"errorCode": 14031}  # OutOfDiskSpace
CODES = {"refused": REFUSED, "applied": NO_MAJORITY, "full": FULL}
FAULTS = ["refused", "applied"] if settings.ON_MONGODB else ["refused"]
ON_ALL = [("insert", "refused"), ("update", "refused")]
FAILED = [*ON_ALL, ("insert", "applied")] if settings.ON_MONGODB else ON_ALL


@contextlib.contextmanager
def failing(write: str, fault: str) -> Iterator[None]:
    """Make the database fail every write of that kind to the tokens."""
    if settings.ON_MONGODB:
        point = {"failCommands": [write], "namespace": f"{connection.settings_dict['NAME']}.{TABLE}", **CODES[fault]}
        command = connection.connection.admin.command
        command("configureFailPoint", "failCommand", mode="alwaysOn", data=point)
        try:
            yield
        finally:
            command("configureFailPoint", "failCommand", mode="off")
        return

    def authorize(action: int, table: str | None, *_: Any) -> int:
        refused = action == SQLITE_WRITES[write] and table == TABLE
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

    connection.ensure_connection()
    connection.connection.set_authorizer(authorize)
    try:
        yield
    finally:
        connection.connection.set_authorizer(None)


@pytest.mark.parametrize("tries", [1, 3])
@pytest.mark.parametrize(("write", "fault"), FAILED)
def test_the_retry_after_a_failed_write_succeeds(
    api: ApiClient, tokens: TokenPair, write: str, fault: str, tries: int
) -> None:
    with failing(write, fault):
        answers = [refresh(api, tokens.refresh).status_code for _ in range(tries)]
    assert set(answers) == {503}

    answer = refresh(api, tokens.refresh)

    assert answer.status_code == 200
    new = answer.json()
    assert status_with(api, tokens.access) == status_with(api, new["access_token"]) == 200
    assert refresh(api, new["refresh_token"]).status_code == 200
    assert not AuditEvent.objects.filter(type__startswith="token.").exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_retry_after_the_last_write_failed_succeeds_whether_it_was_made_or_not(
    api: ApiClient, tokens: TokenPair, fault: str
) -> None:
    with failing("update", fault):
        assert refresh(api, tokens.refresh).status_code == 503
    let_time_pass(10)  # the gateway waits so long for MongoDB

    new = refresh(api, tokens.refresh).json()

    assert status_with(api, new["access_token"]) == 200
    assert refresh(api, new["refresh_token"]).status_code == 200


def test_a_device_whose_refresh_failed_is_listed_once(api: ApiClient, tokens: TokenPair) -> None:
    with failing("update", "refused"):
        assert refresh(api, tokens.refresh).status_code == 503

    (device,) = api.send("get", "/auth/sessions", token=tokens.access).json()["sessions"]

    assert device["current"]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Make the database find no room for another page."""
    if settings.ON_MONGODB:
        with failing("insert", "full"):
            yield
        return
    limit = pragma(f"max_page_count = {pragma('page_count')}")
    try:
        yield
    finally:
        pragma(f"max_page_count = {limit + 1_000_000}")


def pragma(text: str) -> int:
    """Return what SQLite answers."""
    with connection.cursor() as cursor:
        number: int = cursor.execute(f"PRAGMA {text}").fetchone()[0]
        return number


def test_a_full_disk_signs_nobody_out(api: ApiClient, tokens: TokenPair) -> None:
    if not settings.ON_MONGODB:
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # otherwise it would first use pages that earlier tests freed
    token, failed = tokens.refresh, 0
    while failed < 3:
        with full_disk():
            answer = refresh(api, token)
        if answer.status_code == 503:
            failed += 1
            answer = refresh(api, token)
        assert answer.status_code == 200
        token = answer.json()["refresh_token"]
