"""What MongoDB's profiler says about the commands of a block."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
from django.conf import settings
from django.db import connection

EVERYTHING = 2


@contextmanager
def profiled() -> Iterator[list[dict[str, Any]]]:
    """Yield a list that has the profiler's entries for all commands to this database when the block ends."""
    entries: list[dict[str, Any]] = []
    with pymongo.MongoClient[dict[str, Any]](settings.ENV.MONGODB_URI) as client:
        database = client[str(connection.settings_dict["NAME"])]
        try:
            database.command("profile", EVERYTHING)
            yield entries
        finally:
            database.command("profile", 0)
            entries += database["system.profile"].find({"ns": {"$not": re.compile(r"\.system\.")}})
            database.drop_collection("system.profile")
