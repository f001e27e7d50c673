"""How many chunks and bytes a session has: counted from the recorded chunks until it is over, then stored.

Once a session is over no upload gets room any more (`reserved_bytes` is taken from active sessions alone), so what is
there when the last upload has ended is final. A chunk whose upload lost its lease can no longer be recorded: settling
removes its row first, and whoever would still record it finds none.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Count, Sum

from sessions_api.models import Chunk, Session


@dataclass(frozen=True)
class Totals:
    """What is recorded of a session."""

    size_bytes: int = 0
    chunk_count: int = 0


def totals_of(sessions: Iterable[Session]) -> dict[uuid.UUID, Totals]:
    """Return each session's totals by its id; the chunks of all that are not settled are counted in one query."""
    found = {session.pk: Totals(session.size_bytes, session.chunk_count) for session in sessions if session.settled}
    open_ones = [session.pk for session in sessions if not session.settled]
    found |= dict.fromkeys(open_ones, Totals())
    if open_ones:
        recorded = Chunk.objects.recorded().filter(session__in=open_ones).order_by()
        for key, size, count in recorded.values_list("session").annotate(Sum("size"), Count("pk")):
            found[key] = Totals(size, count)
    return found


def settle(session: Session) -> bool:
    """Store the totals of a session that is over and has no upload under way; return whether they are stored.

    It may be asked at any time and by anyone at once. `session` then holds the totals.
    """
    settle_all([session])
    return session.settled


def settle_all(sessions: Sequence[Session]) -> None:
    """Store the totals of those that are over; put onto each session of the list what its totals are."""
    over = [session for session in sessions if not session.settled and session.status != Session.Status.ACTIVE]
    busy = uploading(over) if over else set()
    totals = totals_of(sessions)
    for session in sessions:
        session.size_bytes, session.chunk_count = totals[session.pk].size_bytes, totals[session.pk].chunk_count
        if session in over and session.pk not in busy:
            store(session)


def uploading(sessions: Iterable[Session]) -> set[uuid.UUID]:
    """Return those of the sessions with an upload under way; the rows of uploads whose lease has ended are removed."""
    rows = Chunk.objects.uploading().filter(session__in=[session.pk for session in sessions])
    rows.abandoned().delete()
    return set(rows.order_by().values_list("session", flat=True))


def store(session: Session) -> None:
    """Store the totals that the session holds, once."""
    open_row = Session.objects.filter(pk=session.pk, settled=False).exclude(status=Session.Status.ACTIVE)
    open_row.update(size_bytes=session.size_bytes, chunk_count=session.chunk_count, settled=True)
    session.settled = True
