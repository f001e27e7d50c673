"""Backs up the database."""

import json
import sqlite3
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from lucid_gateway.backups import mongodb, sqlite
from lucid_gateway.backups.files import BackupError, timestamp


class Command(BaseCommand):
    help = (
        "Back up the database to a new file in FOLDER, also while gateways serve. On MongoDB this needs mongodump and "
        "a replica set. Redis needs no backup: what it has is rebuilt from the database, or expires."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="an existing folder")
        parser.add_argument("--json", action="store_true", help="print the file's path and size in bytes as JSON")

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        """Write the backup, and print its path."""
        if not folder.is_dir():
            raise CommandError(f"{folder} is not a folder: create it first")
        target = folder / f"lucid-gateway-{timestamp()}{'.mongodb.gz' if settings.ON_MONGODB else '.sqlite3'}"
        try:
            back_up(target)
        except BackupError as error:
            raise CommandError(str(error)) from error
        except (OSError, sqlite3.Error) as error:
            raise CommandError(f"cannot write a backup to {folder}: {error}") from error
        done = {"file": str(target), "bytes": target.stat().st_size}
        self.stdout.write(
            json.dumps(done) if options["json"] else "{file} is complete ({bytes:,} bytes)".format(**done)
        )


def back_up(target: Path) -> None:
    """Write the backup of this gateway's database; raise BackupError, OSError or sqlite3.Error."""
    if settings.ON_MONGODB:
        mongodb.back_up(settings.ENV.MONGODB_URI, settings.ENV.MONGODB_DATABASE, target)
    else:
        sqlite.back_up(settings.ENV.sqlite_file, target)
