"""manage.py list_jwt_keys."""

import io
import json
import re
from datetime import datetime

import pytest
from django.core.management import call_command

from accounts.models import SigningKey, User
from accounts.tokens.issuing import issue_tokens
from accounts.tokens.keyring import keyring_cache
from accounts.tokens.signing_keys import bootstrap, bootstrap_kid, rotate
from testing.plugin import JWT_SECRET_KEY

FIRST = bootstrap_kid(JWT_SECRET_KEY)


@pytest.fixture(autouse=True)
def first_key(db: None) -> None:
    bootstrap()
    keyring_cache.ring = None


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("list_jwt_keys", *arguments, stdout=output)
    return output.getvalue()


def test_each_key_is_a_line_with_its_state_and_live_tokens_the_newest_first(owner: User) -> None:
    issue_tokens(owner)
    active = rotate("EdDSA", wait=lambda _: None).active
    keyring_cache.ring = None
    issue_tokens(owner)
    issue_tokens(owner)

    lines = {line.split()[0]: re.sub(" +", " ", line) for line in run().splitlines()}
    assert lines[active] == f"{active} EdDSA active 4 live tokens"
    assert re.fullmatch(rf"{FIRST} HS256 retiring 2 live tokens until \d{{4}}-\d\d-\d\d \d\d:\d\d", lines[FIRST])
    created = SigningKey.objects.order_by("-created_at").values_list("kid", flat=True)
    assert list(lines) == list(created)


def test_the_json_output_has_all_times() -> None:
    rotate("HS256", retire_now=True, wait=lambda _: None)
    rows = {row["kid"]: row for row in json.loads(run("--json"))}

    assert set(rows[FIRST]) == {
        "kid", "algorithm", "state", "created_at", "activated_at", "retired_at", "verify_until", "revoked_at",
        "live_tokens",
    }  # fmt: skip
    assert rows[FIRST]["state"] == "revoked"
    assert datetime.fromisoformat(rows[FIRST]["revoked_at"]) >= datetime.fromisoformat(rows[FIRST]["created_at"])
    assert sorted(row["state"] for row in rows.values()) == ["active", "next", "revoked", "revoked"]


def test_no_secret_is_shown() -> None:
    printed = run() + run("--json")

    assert "secret" not in printed
    for secret in (JWT_SECRET_KEY, *SigningKey.objects.values_list("secret", flat=True)):
        assert secret not in printed


def test_an_empty_table_is_an_empty_list() -> None:
    SigningKey.objects.all().delete()

    assert (run(), json.loads(run("--json"))) == ("", [])
