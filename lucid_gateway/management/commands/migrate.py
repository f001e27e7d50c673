"""Django's `migrate`, which waits for MongoDB to build an index over a large collection."""

from typing import Any

from django.conf import settings
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections


class Command(DjangoMigrate):
    def handle(self, *args: Any, **options: Any) -> None:
        """Apply the migrations. The gateway's socket timeout of ten seconds would end the build of an index over a
        million rows, and with it the migration, halfway.
        """
        if settings.ON_MONGODB:
            connections[options["database"]].settings_dict["OPTIONS"]["socketTimeoutMS"] = 0
        super().handle(*args, **options)
