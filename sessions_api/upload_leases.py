"""The lease on a chunk's row: the worker that uploads the chunk renews it as long as the upload makes progress.

A killed worker renews nothing, and uploads of silent clients are not renewed: ten seconds later the index is free for
another upload.
"""

import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from lucid_gateway.kernel.loops import Loop
from lucid_gateway.policy.errors import RequestInProgress
from sessions_api.models import Chunk

LEASE_SECONDS = 10.0
RENEWAL_SECONDS = 3.0
# How long a client may send nothing before its lease is no longer renewed.
SILENCE_SECONDS = 20.0


class ChunkInProgress(RequestInProgress):
    """Another upload holds the index; `details.retry_after` is the seconds until its lease ends if it is dead."""

    text = "Another upload of this index is in progress"


def chunk_in_progress(index: int, seconds: float = 1.0) -> ChunkInProgress:
    """Return the error for an index that another upload holds for at least `seconds`."""
    wait = max(1, -int(-seconds // 1))
    return ChunkInProgress(details={"index": index, "retry_after": wait}, retry_after=wait)


def lease_end() -> datetime:
    """Return the end of a lease that is taken or renewed now."""
    return timezone.now() + timedelta(seconds=LEASE_SECONDS)


@dataclass(eq=False)
class Upload:
    """One upload in progress: the chunk row that it holds by its token, and the number of bytes it has reserved."""

    session_id: uuid.UUID
    chunk_id: uuid.UUID
    index: int
    token: str
    reserved: int = 0
    recorded: bool = False
    lease_safe_until: float = field(default_factory=lambda: time.monotonic() + LEASE_SECONDS)
    progress_deadline: float = field(default_factory=lambda: time.monotonic() + SILENCE_SECONDS)

    def row(self) -> QuerySet[Chunk]:
        """Return the upload's row if the upload still holds it."""
        rows = Chunk.objects.filter(session_id=self.session_id, pk=self.chunk_id)
        return rows.filter(upload=self.token, state=Chunk.State.UPLOADING)

    def note_progress(self, seconds: float = SILENCE_SECONDS) -> None:
        """Keep the lease alive for `seconds` from now, without further progress."""
        self.progress_deadline = time.monotonic() + seconds

    def confirm_lease(self) -> None:
        """Renew the lease if it may have expired; raise ChunkInProgress if another upload has taken the index over."""
        if time.monotonic() < self.lease_safe_until:
            return
        started = time.monotonic()
        if not self.row().update(lease_until=lease_end()):
            raise chunk_in_progress(self.index)
        self.lease_safe_until = started + LEASE_SECONDS


class LeaseRenewer:
    """Renews the leases of this process's uploads in a background loop that runs while there are any."""

    def __init__(self, every: float = RENEWAL_SECONDS) -> None:
        self.held: set[Upload] = set()
        self.loop = Loop("uploads", self.renew_all, every=every, needed=lambda: bool(self.held))

    @contextmanager
    def renewing(self, upload: Upload) -> Iterator[None]:
        """Renew the upload's lease in the background until the block ends."""
        self.held.add(upload)
        self.loop.start()
        try:
            yield
        finally:
            self.held.discard(upload)

    def renew_all(self) -> None:
        """Renew the leases of the uploads that have made progress recently."""
        renew([upload for upload in list(self.held) if upload.progress_deadline > time.monotonic()])


def renew(uploads: Iterable[Upload]) -> None:
    """Extend the leases in one statement."""
    by_token = {upload.token: upload for upload in uploads}
    if not by_token:
        return
    started = time.monotonic()
    ids = [upload.chunk_id for upload in by_token.values()]
    rows = Chunk.objects.filter(pk__in=ids, upload__in=list(by_token), state=Chunk.State.UPLOADING)
    if rows.update(lease_until=lease_end()) == len(by_token):
        for upload in by_token.values():
            upload.lease_safe_until = started + LEASE_SECONDS


lease_renewer = LeaseRenewer()
