"""Migrations wait for MongoDB as long as it builds an index."""

import os
import uuid

import pymongo
import pytest

from testing.gateway import manage

pytestmark = [pytest.mark.mongodb, pytest.mark.django_db]
# Longer than the gateway's socket timeout of ten seconds.
SLOW_INDEX = {"failCommands": ["createIndexes"], "blockConnection": True, "blockTimeMS": 11_000}


def test_an_index_that_takes_longer_than_the_socket_timeout_is_built() -> None:
    env = os.environ | {"MONGODB_DATABASE": f"migrated_{uuid.uuid4().hex[:8]}"}
    with pymongo.MongoClient[dict[str, object]](os.environ["MONGODB_URI"]) as client:
        point = {"configureFailPoint": "failCommand", "data": SLOW_INDEX, "mode": {"times": 1}}
        client.admin.command(point)
        manage(env, "migrate")

        assert "audit_key" in client[env["MONGODB_DATABASE"]]["accounts_auditevent"].index_information()
        client.drop_database(env["MONGODB_DATABASE"])
