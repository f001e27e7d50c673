"""Who uploads what: the lease on a chunk's row, kept alive by its worker for as long as the upload gets on.

A worker that was killed renews nothing, and a client that sends nothing is not renewed for: ten seconds later the index
is free for another upload.
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
# How long a client may send nothing before its place is no longer kept.
SILENCE_SECONDS = 20.0


class ChunkUnderWay(RequestInProgress):
    """Another upload has the index; `details.retry_after` says in how many seconds its lease ends, if it is dead."""

    text = "An upload of this index is under way"


def under_way(index: int, seconds: float = 1.0) -> ChunkUnderWay:
    """Return the error for an index that another upload has for at least so many seconds."""
    wait = max(1, -int(-seconds // 1))
    return ChunkUnderWay(details={"index": index, "retry_after": wait}, retry_after=wait)


def lease_end() -> datetime:
    """Return when a lease ends that is taken or renewed now."""
    return timezone.now() + timedelta(seconds=LEASE_SECONDS)


@dataclass(eq=False)
class Upload:
    """One upload under way: the row it holds by its token `upload`, and how many bytes it has reserved."""

    session_id: uuid.UUID
    chunk_id: uuid.UUID
    index: int
    token: str
    reserved: int = 0
    recorded: bool = False
    sure_until: float = field(default_factory=lambda: time.monotonic() + LEASE_SECONDS)
    moving_until: float = field(default_factory=lambda: time.monotonic() + SILENCE_SECONDS)

    def row(self) -> QuerySet[Chunk]:
        """Return the row, if the upload still holds it."""
        return Chunk.objects.filter(pk=self.chunk_id, upload=self.token, state=Chunk.State.UPLOADING)

    def moved(self, seconds: float = SILENCE_SECONDS) -> None:
        """Note that the upload gets on; its place is kept for so long without another word of it."""
        self.moving_until = time.monotonic() + seconds

    def make_sure(self) -> None:
        """Raise ChunkUnderWay if somebody else may have the index by now."""
        if time.monotonic() < self.sure_until:
            return
        started = time.monotonic()
        if not self.row().update(lease_until=lease_end()):
            raise under_way(self.index)
        self.sure_until = started + LEASE_SECONDS


class UploadKeeper:
    """The uploads of this process; their leases are renewed while there are any."""

    def __init__(self, every: float = RENEWAL_SECONDS) -> None:
        self.held: set[Upload] = set()
        self.loop = Loop("uploads", self.renew_all, every=every, needed=lambda: bool(self.held))

    @contextmanager
    def keeping(self, upload: Upload) -> Iterator[None]:
        """Renew the upload's lease until the block ends."""
        self.held.add(upload)
        self.loop.start()
        try:
            yield
        finally:
            self.held.discard(upload)

    def renew_all(self) -> None:
        """Renew the leases of the uploads that make progress."""
        renew([upload for upload in list(self.held) if upload.moving_until > time.monotonic()])


def renew(uploads: Iterable[Upload]) -> None:
    """Put the end of the leases off, all in one statement."""
    by_token = {upload.token: upload for upload in uploads}
    if not by_token:
        return
    started = time.monotonic()
    ids = [upload.chunk_id for upload in by_token.values()]
    rows = Chunk.objects.filter(pk__in=ids, upload__in=list(by_token), state=Chunk.State.UPLOADING)
    if rows.update(lease_until=lease_end()) == len(by_token):
        for upload in by_token.values():
            upload.sure_until = started + LEASE_SECONDS


keeper = UploadKeeper()
