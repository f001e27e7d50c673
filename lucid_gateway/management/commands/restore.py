"""Restores a backup, and makes it safe to serve from."""

import sqlite3
import time
from argparse import ArgumentParser
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from lucid_gateway.backups import mongodb, sqlite
from lucid_gateway.backups.files import MONGODB, SQLITE, BackupError, check_kind
from lucid_gateway.kernel.redis.access import RedisUnavailable
from proxy.choosing.reports import CURRENT_SECONDS, reporting_gateways

PAUSE_SECONDS = 0.5


class Command(BaseCommand):
    help = (
        "Replace the database by a backup, then run migrate and after_restore. Stop all gateways first: the command "
        "refuses to run beside one that reports to Redis or is connected to the SQLite file, but cannot find others. "
        "Leave Redis unchanged, or start an empty one if it is lost, too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE", help="a file that backup has written")
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    def handle(self, *args: Any, file: Path, yes: bool, **options: Any) -> None:
        """Restore the backup, and print where the old database is."""
        try:
            check_kind(file, MONGODB if settings.ON_MONGODB else SQLITE)
            if settings.ON_MONGODB:
                mongodb.find("mongorestore")
                mongodb.check_archive(file, settings.ENV.MONGODB_DATABASE)
            if not yes:
                self.confirm(file)
            refuse_running_gateways()
            connections.close_all()
            self.stdout.write(replace_database(file))
        except BackupError as error:
            raise CommandError(str(error)) from error
        except (OSError, sqlite3.Error) as error:
            raise CommandError(f"cannot restore {file}: {error}") from error
        self.make_safe()

    def confirm(self, file: Path) -> None:
        """Ask for confirmation; raise CommandError unless the answer is yes."""
        replaced = "All databases of MongoDB are" if settings.ON_MONGODB else f"{settings.ENV.sqlite_file} is"
        self.stdout.write(f"{replaced} replaced by {file}. All users must log in again, and API keys are suspended.")
        if input("Type yes to continue: ").strip() != "yes":
            raise CommandError("nothing was changed")

    def make_safe(self) -> None:
        """Migrate the restored database and retire its credentials; raise CommandError."""
        try:
            call_command("migrate", verbosity=0, interactive=False)
            call_command("after_restore", yes=True, stdout=self.stdout)
        except (CommandError, DatabaseError) as error:
            raise CommandError(
                f"the backup is in place, but not safe to serve from yet ({error}). Before the gateways start, run "
                "migrate and after_restore; do not restore again"
            ) from error


def refuse_running_gateways() -> None:
    """Raise BackupError if a gateway reports to Redis; wait for the reports of those that have just stopped to expire.

    Without Redis, nothing is refused: it may be lost together with the database.
    """
    deadline = time.monotonic() + CURRENT_SECONDS + PAUSE_SECONDS
    with suppress(RedisUnavailable):
        while running := reporting_gateways():
            if time.monotonic() >= deadline:
                raise BackupError(f"stop all gateways first: {', '.join(sorted(running))}")
            time.sleep(PAUSE_SECONDS)


def replace_database(file: Path) -> str:
    """Put the backup in the place of this gateway's database; return a sentence. Raises BackupError, OSError or
    sqlite3.Error.
    """
    if settings.ON_MONGODB:
        mongodb.restore(file, settings.ENV.MONGODB_URI)
        return f"{file} is restored."
    kept = sqlite.restore(file, settings.ENV.sqlite_file)
    return f"{file} is restored." + (f" The old database is {kept}." if kept else "")
