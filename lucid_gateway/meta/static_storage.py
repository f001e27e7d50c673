"""The URLs of static files, each with the version of its file."""

import hashlib
from functools import cache
from pathlib import Path

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage


@cache
def version_of(path: str) -> str:
    """Return a hash of the file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


class VersionedStorage(StaticFilesStorage):
    """Adds its version to each file's URL, so that browsers may cache the file until its content changes."""

    def url(self, name: str | None) -> str:
        """Return the URL of a file, with its version if the file exists."""
        address, path = super().url(name), finders.find(name or "")
        return f"{address}?v={version_of(path)}" if path else address
