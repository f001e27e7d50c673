"""How the collections are spread over the shards of a MongoDB cluster: docs/scaling.md.

A shard enforces only unique indexes that begin with the shard key. `prepare` puts the key in front of the others. That
changes nothing, because their values belong to one value of the key for good: a token, the token that it replaced, a
session and a manifest to one user, a chunk to one session, an event to one time.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

HASHED, ASCENDING = "hashed", 1
Key = Mapping[str, str | int]

SHARD_KEYS: dict[str, Key] = {
    "accounts_issuedtoken": {"user_id": HASHED},
    "accounts_idempotentrequest": {"record_id": HASHED},
    "accounts_auditevent": {"created_at": ASCENDING, "event_id": ASCENDING},
    "explorer_keptrequest": {"kept_id": ASCENDING},
    "sessions_api_session": {"user_id": HASHED},
    "sessions_api_chunk": {"session_id": HASHED},
    "sessions_api_manifest": {"user_id": HASHED},
}
OF_USERS = "a few rows for each user, found by several unique values"
BY_HAND = "a few rows, written by operators"
UNSHARDED = {
    "accounts_user": "three unique values (id, email, username), of which a shard key could keep one",
    "accounts_apikey": OF_USERS,
    "accounts_recoverycode": OF_USERS,
    "sessions_api_trustpolicy": OF_USERS,
    "accounts_signingkey": "a few rows; one of them is active",
    "figures_sample": "48 hours of figures, whatever the load",
    "ratelimit_limitrule": BY_HAND,
    "ratelimit_addressrule": BY_HAND,
    "proxy_maintenance": BY_HAND,
    "proxy_edgeexclusion": BY_HAND,
    "snapshots_revision": "a row for each table in memory",
    "auth_group": "empty",
    "auth_group_permissions": "empty",
    "auth_permission": "Django's, a few rows",
    "django_admin_log": "Django's log of changes in /admin, which prune shortens",
    "django_content_type": "Django's, a few rows",
    "django_migrations": "Django's, a few rows",
    "django_session": "a row for each operator who is signed in",
}


def commands(database: str) -> Iterator[str]:
    """Yield the commands for mongosh that shard the collections."""
    yield f'sh.enableSharding("{database}")'
    for name, key in SHARD_KEYS.items():
        yield f'sh.shardCollection("{database}.{name}", {json.dumps(key)})'


def prepare(database: Any) -> None:
    """Make the indexes of the shard keys, and put the key in front of each unique index that does not begin with it.

    `database` is one of the driver. It can be repeated. Raises PyMongoError.
    """
    for name, key in SHARD_KEYS.items():
        indexes = list(database[name].list_indexes())
        if not any(supports(index, key) for index in indexes):
            database[name].create_index(list(key.items()), name="shard_key")
        for index in indexes:
            if index.get("unique") and not begins_with(index["key"], key):
                put_in_front(database[name], index, key)


def supports(index: Mapping[str, Any], key: Key) -> bool:
    """Return whether the index is that of the shard key, with all rows."""
    return dict(index["key"]) == dict(key) and "partialFilterExpression" not in index


def begins_with(index: Key, key: Key) -> bool:
    """Return whether the index has the fields of the shard key first, be they hashed in the latter or not."""
    return list(index)[: len(key)] == list(key)


def put_in_front(collection: Any, index: Mapping[str, Any], key: Key) -> None:
    """Replace the unique index by one that begins with the fields of the key."""
    fields = dict.fromkeys([*key, *index["key"]], ASCENDING)
    kept = {"partialFilterExpression": index["partialFilterExpression"]} if "partialFilterExpression" in index else {}
    collection.create_index(list(fields.items()), name=f"{index['name']}_sharded", unique=True, **kept)
    collection.drop_index(index["name"])
