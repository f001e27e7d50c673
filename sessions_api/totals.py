"""The number of chunks and bytes of a session: counted from the recorded chunks until it is over, then stored.

Only active sessions accept reservations, so once a session is over and its last upload has ended, its totals are final.
Settling first removes the rows of uploads that lost their lease: without its row, an upload cannot record its chunk.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Count, Sum

from sessions_api.models import Chunk, Session


@dataclass(frozen=True)
class Totals:
    size_bytes: int = 0
    chunk_count: int = 0


def totals_of(sessions: Iterable[Session]) -> dict[uuid.UUID, Totals]:
    """Return each session's totals by its id; one query counts the chunks of all sessions that are not settled."""
    found = {session.pk: Totals(session.size_bytes, session.chunk_count) for session in sessions if session.settled}
    open_ones = [session.pk for session in sessions if not session.settled]
    found |= dict.fromkeys(open_ones, Totals())
    if open_ones:
        recorded = Chunk.objects.recorded().filter(session__in=open_ones).order_by()
        for key, size, count in recorded.values_list("session").annotate(bytes=Sum("size"), chunks=Count("*")):
            found[key] = Totals(size, count)
    return found


def settle(session: Session) -> bool:
    """Store the totals of a session that is over and has no upload in progress; return whether they are stored.

    Safe to call at any time, also concurrently. Sets the totals on `session`.
    """
    settle_all([session])
    return session.settled


def settle_all(sessions: Sequence[Session]) -> None:
    """Set the totals on each session of the list; store them for those that are over."""
    over = [session for session in sessions if not session.settled and session.status != Session.Status.ACTIVE]
    busy = uploading(over) if over else set()
    totals = totals_of(sessions)
    for session in sessions:
        session.size_bytes, session.chunk_count = totals[session.pk].size_bytes, totals[session.pk].chunk_count
        if session in over and session.pk not in busy:
            store(session)


def uploading(sessions: Iterable[Session]) -> set[uuid.UUID]:
    """Return the ids of the sessions with an upload in progress; remove the rows of uploads whose lease has ended."""
    rows = Chunk.objects.uploading().filter(session__in=[session.pk for session in sessions])
    rows.abandoned().delete()
    return set(rows.order_by().values_list("session", flat=True))


def store(session: Session) -> None:
    """Store the session's totals unless another process has stored them."""
    open_row = Session.objects.filter(pk=session.pk, settled=False).exclude(status=Session.Status.ACTIVE)
    open_row.update(size_bytes=session.size_bytes, chunk_count=session.chunk_count, settled=True)
    session.settled = True
