"""A backup on SQLite: made while the gateway serves, restored, and made safe by after_restore."""

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

from accounts.tests.stage import HIGH_LIMITS, Stage, running_stage
from accounts.tests.test_parallel import admin_session
from testing.gateway import running_gateway
from testing.hammer import api, outcome
from testing.http.client import ask, request_bytes
from testing.servers import running_redis
from testing.waiting import wait_until


def back_up(database: str, copy: Path) -> None:
    """Copy the database like `.backup` of the sqlite3 shell."""
    with contextlib.closing(sqlite3.connect(database)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def with_key(stage: Stage, key: str) -> str:
    """Return `200` or the code of the refusal of the API key."""
    return outcome(ask(stage.gateway.port, api("GET", "/users/me", key=key)))


def page(stage: Stage, cookie: str) -> int:
    """Return the status of an operator page."""
    return ask(stage.gateway.port, request_bytes("GET", "/admin/password_change/", cookie)).status


def test_after_the_command_a_restored_backup_revives_nothing(tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    with running_stage("restore") as stage:
        person, operator = stage.people.pop(), stage.people.pop()
        operator.takes_role("admin")
        cookie = admin_session(stage, operator)
        left, stayed = person.log_in(), person.log_in()
        revoked, key = (person.api_key(stayed["access_token"], "user:read") for _ in range(2))
        back_up(stage.gateway.env["SQLITE_PATH"], backup)

        stage.get("POST", "/auth/logout", token=left["access_token"])
        renewed = stage.get("POST", "/auth/refresh", {"refresh_token": stayed["refresh_token"]})
        stage.get("DELETE", f"/users/me/api-keys/{revoked.split('_')[1]}", token=renewed["access_token"])
        assert (stage.outcome_with(left["access_token"]), with_key(stage, revoked)) == ("2003", "2003")

    issued = [left, stayed, renewed]
    servers = HIGH_LIMITS | {"TRUSTED_PROXIES": "127.0.0.1", "SQLITE_PATH": str(backup)}
    with running_redis() as redis, running_gateway(**servers, REDIS_URL=redis.url) as gateway:
        stage = replace(stage, gateway=gateway)
        assert (stage.outcome_with(left["access_token"]), with_key(stage, revoked)) == ("200", "200")
        assert (with_key(stage, key), page(stage, cookie)) == ("200", 200)

        retired = json.loads(gateway.manage("after_restore", "--yes", "--json"))
        assert (retired["api_keys"], retired["admin_sessions"]) == (2, 1)
        assert [stage.outcome_with(tokens["access_token"]) for tokens in (left, stayed)] == ["2003"] * 2
        assert (with_key(stage, revoked), with_key(stage, key), page(stage, cookie)) == ("2003", "2003", 302)
        # A token that the backup does not know goes with its signing key, which the workers read every two seconds.
        wait_until(lambda: {stage.outcome_with(renewed["access_token"]) for _ in range(8)} == {"2003"})
        for tokens in issued:
            answer = stage.ask("POST", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})
            assert outcome(answer) == "2010"

        gateway.manage("confirm_api_keys", "--key-id", key.split("_")[1])
        assert (with_key(stage, revoked), with_key(stage, key)) == ("2003", "200")
        assert stage.outcome_with(gateway.issue_token(person.email)) == "200"
