"""The shard keys: every collection has a place, unique values stay unique, and frequent queries name the key."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from pymongo.errors import DuplicateKeyError

from accounts.tokens.issuing import TokenPair
from conftest import ApiClient
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.mongodb.sharding import SHARD_KEYS, UNSHARDED, begins_with, commands, prepare
from testing.profiler import profiled
from testing.servers import ROOT
from testing.shards import untargeted

MANUAL = (ROOT / "docs" / "scaling.md").read_text()


def test_every_collection_has_a_place() -> None:
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True) if model._meta.managed}

    assert SHARD_KEYS.keys() | UNSHARDED.keys() == tables | {"django_migrations"}
    assert SHARD_KEYS.keys().isdisjoint(UNSHARDED)


def test_the_manual_has_every_collection_and_every_command() -> None:
    assert {line for line in commands("lucid_gateway") if line not in MANUAL} == set()
    assert {name for name in [*SHARD_KEYS, *UNSHARDED] if f"`{name}`" not in MANUAL} == set()


def test_sqlite_has_no_shards() -> None:
    if not settings.ON_MONGODB:
        with pytest.raises(CommandError, match="MONGODB_URI is not set"):
            call_command("prepare_sharding")


@pytest.fixture
def prepared(db: None) -> Iterator[Any]:
    """A database with the indexes of the sharded collections, prepared for sharding."""
    connection.ensure_connection()
    copy = connection.connection[f"sharded_{uuid.uuid4().hex[:8]}"]
    for name in SHARD_KEYS:
        for index in connection.database[name].list_indexes():
            options = {key: value for key, value in index.items() if key not in ("v", "key", "ns")}
            copy[name].create_index(list(index["key"].items()), **options)
    prepare(copy)
    yield copy
    connection.connection.drop_database(copy.name)


@pytest.mark.mongodb
def test_each_unique_index_begins_with_the_shard_key(prepared: Any) -> None:
    prepare(prepared)  # again, without effect
    unique = {
        name: [index["key"] for index in prepared[name].list_indexes() if index.get("unique")] for name in SHARD_KEYS
    }

    assert all(unique.values())
    assert all(begins_with(key, SHARD_KEYS[name]) for name, keys in unique.items() for key in keys)


@pytest.mark.mongodb
@pytest.mark.parametrize(
    ("name", "row", "other"),
    [
        ("accounts_issuedtoken", {"predecessor": "a", "kind": "access"}, {"predecessor": None, "kind": "access"}),
        ("accounts_issuedtoken", {"jti": "a"}, {"jti": "b"}),
        ("accounts_idempotentrequest", {"record_id": "a"}, {"record_id": "b"}),
        ("sessions_api_session", {"active_slot": 7}, {"active_slot": None}),
        ("sessions_api_session", {"session_id": "a"}, {"session_id": "b"}),
        ("sessions_api_chunk", {"session_id": "a", "index": 2**40}, {"session_id": "b", "index": 2**40}),
        ("sessions_api_manifest", {"session_id": "a"}, {"session_id": "b"}),
    ],
)
def test_a_value_stays_unique(prepared: Any, name: str, row: dict[str, Any], other: dict[str, Any]) -> None:
    whose = {"user_id": "u"}
    prepared[name].insert_many([whose | row, whose | other])

    with pytest.raises(DuplicateKeyError):
        prepared[name].insert_one(whose | row)


@pytest.fixture
def session(api: ApiClient, tokens: TokenPair) -> str:
    """The id of a session. Whatever a worker does once, such as rebuilding the revocations in Redis, is done."""
    answer = api.send("post", "/sessions", {"name": "s"}, token=tokens.access)
    return str(answer.json()["session_id"])


@pytest.mark.mongodb
def test_without_redis_a_token_is_looked_up_on_one_shard(api: ApiClient, tokens: TokenPair, session: str) -> None:
    with profiled() as entries:
        breaker.outage = Outage()
        assert api.send("get", "/chain/info", token=tokens.access).status_code == 502

    assert "accounts_issuedtoken" in {entry["ns"].partition(".")[2] for entry in entries}
    assert untargeted(entries) == set()


@pytest.mark.mongodb
def test_a_refresh_and_a_logout_ask_all_shards_only_by_predecessor_and_family(
    api: ApiClient, tokens: TokenPair, session: str
) -> None:
    with profiled() as entries:
        new = api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).json()
        assert api.send("post", "/auth/logout", {}, token=new["access_token"]).status_code == 200

    assert {fields for _, _, fields in untargeted(entries)} == {
        "predecessor", "expires_at family revoked_at", "expires_at family kind revoked_at",
    }  # fmt: skip
