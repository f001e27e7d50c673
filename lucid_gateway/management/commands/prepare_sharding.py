from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from lucid_gateway.mongodb.sharding import commands, prepare


class Command(BaseCommand):
    help = "Adapt the indexes of MongoDB to the shard keys, and print the commands for mongosh that shard."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.ON_MONGODB:
            raise CommandError("MONGODB_URI is not set: SQLite has no shards")
        connection.settings_dict["OPTIONS"]["socketTimeoutMS"] = 0  # building an index may take long
        connection.ensure_connection()
        prepare(connection.database)  # type: ignore[attr-defined]
        for line in commands(settings.ENV.MONGODB_DATABASE):
            self.stdout.write(line)
