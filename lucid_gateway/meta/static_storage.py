"""Where the addresses of files come from: each names the version of its file."""

import hashlib
from functools import cache
from pathlib import Path

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage


@cache
def version_of(path: str) -> str:
    """Return what stands for the content of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


class VersionedStorage(StaticFilesStorage):
    """Gives each address of a file its version, so that browsers may keep the file until its content changes."""

    def url(self, name: str | None) -> str:
        """Return the address of a file, with its version if there is such a file."""
        address, path = super().url(name), finders.find(name or "")
        return f"{address}?v={version_of(path)}" if path else address
