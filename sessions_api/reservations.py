"""Reserving space in a session before an upload begins, so that parallel uploads never exceed the size limit.

`reserved_bytes` is never less than what the session's uploads use. It can be more, after a worker was killed or two
recounts overlapped, so it is recounted when it leaves too little space.

Every reservation and every recount increments `version`. A recount is stored only if nothing was reserved since it
began to read; bytes are returned only if nothing was reserved or recounted since their row was known to exist.
"""

import uuid

from django.db.models import F, QuerySet, Sum

from lucid_gateway.policy.errors import NotFound, ServiceUnavailable, SessionTooLarge, WrongSessionState
from sessions_api.models import Chunk, Session

ACTIVE = Session.Status.ACTIVE
MAX_RECOUNTS = 20


def reserve(session_id: uuid.UUID, *, owner: uuid.UUID | str, size: int, minimum: int, own_chunk_id: uuid.UUID) -> int:
    """Reserve `size` bytes for the existing chunk row `own_chunk_id` of the owner's session, or all that are left if
    these are at least `minimum`. Return the number of reserved bytes.

    Raises SessionTooLarge with the space left, WrongSessionState or NotFound.
    """
    for _ in range(MAX_RECOUNTS):
        if try_reserve(session_id, owner, size):
            return size
        version, limit = version_and_limit(session_id)
        # The version was read before the count: the update fails if a reservation was made that the count misses.
        taken = taken_by_others(session_id, own_chunk_id)
        room = limit - taken
        if room < minimum:
            raise SessionTooLarge(details={"room_bytes": max(0, room), "max_size_bytes": limit})
        given = min(size, room)
        if at_version(session_id, version).update(reserved_bytes=taken + given, version=F("version") + 1):
            return given
    raise ServiceUnavailable("Too many concurrent uploads")


def try_reserve(session_id: uuid.UUID, owner: uuid.UUID | str, size: int) -> bool:
    """Reserve the bytes if the counter leaves enough space; return whether it did."""
    active = Session.objects.owned_by(owner).filter(pk=session_id, status=ACTIVE)
    rows = active.filter(reserved_bytes__lte=F("max_size_bytes") - size)
    return bool(rows.update(reserved_bytes=F("reserved_bytes") + size, version=F("version") + 1))


def version_and_limit(session_id: uuid.UUID) -> tuple[int, int]:
    """Return the version and the size limit of an active session; raise WrongSessionState or NotFound."""
    rows = Session.objects.undeleted().filter(pk=session_id)
    found = rows.values_list("version", "max_size_bytes", "status").first()
    if found is None:
        raise NotFound()
    version, limit, status = found
    if status != ACTIVE:
        raise WrongSessionState(details={"status": status})
    return version, limit


def taken_by_others(session_id: uuid.UUID, own_chunk_id: uuid.UUID) -> int:
    """Return the bytes of all other rows, after removing those of abandoned uploads."""
    rows = Chunk.objects.filter(session_id=session_id).exclude(pk=own_chunk_id).order_by()
    rows.abandoned().delete()
    return rows.aggregate(taken=Sum("size"))["taken"] or 0


def version_of(session_id: uuid.UUID) -> int | None:
    """Return the session's version, None without a session. Read it before a row is deleted or shrinks."""
    return Session.objects.filter(pk=session_id).values_list("version", flat=True).first()


def give_back(session_id: uuid.UUID, *, size: int, version: int | None) -> None:
    """Return bytes that a row held when the session had that version; if the version has changed, recount instead."""
    if size and version is not None:
        rows = Session.objects.filter(pk=session_id, version=version, reserved_bytes__gte=size)
        if not rows.update(reserved_bytes=F("reserved_bytes") - size):
            recount(session_id)


def recount(session_id: uuid.UUID) -> None:
    """Set the counter to the sum of the rows, unless bytes are reserved meanwhile: then it stays, possibly too high."""
    version = version_of(session_id)
    taken = Chunk.objects.filter(session_id=session_id).order_by().aggregate(taken=Sum("size"))["taken"] or 0
    if version is not None:
        rows = Session.objects.filter(pk=session_id, version=version)
        rows.update(reserved_bytes=taken, version=F("version") + 1)


def remove_abandoned(session_id: uuid.UUID) -> None:
    """Remove the rows of abandoned uploads and recount."""
    Chunk.objects.abandoned().filter(session_id=session_id).delete()
    recount(session_id)


def at_version(session_id: uuid.UUID, version: int) -> QuerySet[Session]:
    """Return the session's row if it is active and still has that version."""
    return Session.objects.undeleted().filter(pk=session_id, version=version, status=ACTIVE)
