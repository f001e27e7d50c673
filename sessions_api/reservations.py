"""Room in a session: bytes are reserved before an upload begins, so that parallel ones never exceed the limit.

`reserved_bytes` is never less than what the session's uploads hold. It may be more: of a worker that was killed, or
where a count was overtaken. When there seems to be no room it is counted anew.

Every reservation and every recount raises `version`. A recount is taken only if nobody reserved since it began to read;
bytes are given back only if nobody reserved or recounted since the row that held them was there.
"""

import uuid

from django.db.models import F, QuerySet, Sum

from lucid_gateway.policy.errors import NotFound, ServiceUnavailable, SessionTooLarge, WrongSessionState
from sessions_api.models import Chunk, Session

ACTIVE = Session.Status.ACTIVE
RECOUNTS = 20


def reserve(session_id: uuid.UUID, *, size: int, least: int, own: uuid.UUID) -> int:
    """Reserve `size` bytes for the chunk row `own`, which is there already, or what room there is from `least` on.

    Returns how many were reserved. Raises SessionTooLarge with the room left, WrongSessionState or NotFound.
    """
    for _ in range(RECOUNTS):
        if add(session_id, size):
            return size
        version, limit = state_of(session_id)
        # The version was read first: a reservation that this count does not see makes the update find nothing.
        taken = taken_by_others(session_id, own)
        room = limit - taken
        if room < least:
            raise SessionTooLarge(details={"room_bytes": max(0, room), "max_size_bytes": limit})
        given = min(size, room)
        if of_version(session_id, version).update(reserved_bytes=taken + given, version=F("version") + 1):
            return given
    raise ServiceUnavailable("Too many uploads at once")


def add(session_id: uuid.UUID, size: int) -> bool:
    """Reserve the bytes if the counter says that there is room; return whether it did."""
    active = Session.objects.undeleted().filter(pk=session_id, status=ACTIVE)
    rows = active.filter(reserved_bytes__lte=F("max_size_bytes") - size)
    return bool(rows.update(reserved_bytes=F("reserved_bytes") + size, version=F("version") + 1))


def state_of(session_id: uuid.UUID) -> tuple[int, int]:
    """Return version and size limit of an active session; raise WrongSessionState or NotFound."""
    rows = Session.objects.undeleted().filter(pk=session_id)
    found = rows.values_list("version", "max_size_bytes", "status").first()
    if found is None:
        raise NotFound()
    version, limit, status = found
    if status != ACTIVE:
        raise WrongSessionState(details={"status": status})
    return version, limit


def taken_by_others(session_id: uuid.UUID, own: uuid.UUID) -> int:
    """Return the bytes of all rows but one's own; those of uploads that nobody goes on with are removed first."""
    rows = Chunk.objects.filter(session_id=session_id).exclude(pk=own).order_by()
    rows.abandoned().delete()
    return rows.aggregate(taken=Sum("size"))["taken"] or 0


def version_of(session_id: uuid.UUID) -> int | None:
    """Return the session's version, to be read before a row goes or shrinks; None if there is no session."""
    return Session.objects.filter(pk=session_id).values_list("version", flat=True).first()


def give_back(session_id: uuid.UUID, *, size: int, version: int | None) -> None:
    """Give back bytes that a row held when the session had that version; if it has another, count anew."""
    if size and version is not None:
        rows = Session.objects.filter(pk=session_id, version=version, reserved_bytes__gte=size)
        if not rows.update(reserved_bytes=F("reserved_bytes") - size):
            recount(session_id)


def recount(session_id: uuid.UUID) -> None:
    """Let the counter say what the rows hold, unless somebody reserves meanwhile: then it may go on saying more."""
    version = version_of(session_id)
    taken = Chunk.objects.filter(session_id=session_id).order_by().aggregate(taken=Sum("size"))["taken"] or 0
    if version is not None:
        rows = Session.objects.filter(pk=session_id, version=version)
        rows.update(reserved_bytes=taken, version=F("version") + 1)


def forget_abandoned(session_id: uuid.UUID) -> None:
    """Count anew, without the uploads that nobody goes on with."""
    Chunk.objects.abandoned().filter(session_id=session_id).delete()
    recount(session_id)


def of_version(session_id: uuid.UUID, version: int) -> QuerySet[Session]:
    """Return the active session if it still has that version."""
    return Session.objects.undeleted().filter(pk=session_id, version=version, status=ACTIVE)
