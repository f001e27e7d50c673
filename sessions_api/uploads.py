"""Uploading a chunk: a place and room for it, its bytes to the cluster, and the record of what the cluster accepted.

Each step is one conditional update or a unique key. Whatever breaks off leaves at most a row whose lease runs out and
some bytes reserved too many; the next upload of the index takes over, and the next that lacks room counts anew.
"""

import contextlib
import json
import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.http import HttpRequest
from django.utils import timezone

from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import (
    AlreadyExists,
    BadUpstreamAnswer,
    DatabaseUnavailable,
    NotFound,
    WrongSessionState,
)
from lucid_gateway.policy.routes import CHUNK_UPLOAD
from proxy.clusters import cluster_named
from proxy.connection.headers import Identity
from proxy.forwarding.forwarder import Forwarded, forward
from sessions_api.chunk_body import MAX_CHUNK, ChunkBody
from sessions_api.models import Chunk, Session
from sessions_api.moments import moment
from sessions_api.reservations import give_back, reserve, version_of
from sessions_api.upload_leases import Upload, keeper, lease_end, under_way

logger = logging.getLogger(__name__)
MAX_ANSWER = 64 * 1024
MAX_PATH = 500
# Without a word of the client: the cluster has the whole body, and all of its time.
ANSWER_SECONDS = CHUNK_UPLOAD.timeouts.total + CHUNK_UPLOAD.timeouts.connect
RECORDED, UPLOADING = Chunk.State.RECORDED, Chunk.State.UPLOADING


@dataclass(frozen=True)
class Uploaded:
    """A recorded chunk; `created` is False if it had been recorded before."""

    chunk: Chunk
    created: bool


def upload_chunk(
    request: HttpRequest, caller: Identity, *, session_id: uuid.UUID, index: int, body: ChunkBody
) -> Uploaded | Forwarded:
    """Send the body to the cluster and record the chunk; return it, or the cluster's answer if that is no 2xx.

    Raises NotFound, WrongSessionState, SessionTooLarge, ChunkTooLarge, AlreadyExists for another content of the index,
    ChunkUnderWay, InvalidRequest for an empty body or one that is not what its hash says, and what `forward` raises.
    """
    try:
        require_active(caller.user_id, session_id)
    except WrongSessionState:
        chunk = chunk_at(session_id, index)
        if chunk is None or chunk.state != RECORDED:
            raise
        return repeated(chunk, body)  # to whoever missed the answer, before the session was over
    size = body.length or MAX_CHUNK
    place = take_place(session_id, index, size)
    if isinstance(place, Chunk):
        return repeated(place, body)
    with held(place):
        place.reserved = reserve(session_id, size=size, least=body.length or 1, own=place.chunk_id)
        if place.reserved < size:
            place.row().update(size=place.reserved)
            body.room = place.reserved
        body.moved, body.before_end = place.moved, lambda: before_end(place)
        body.peek()
        forwarded = send(request, caller, session_id, body)
        if not 200 <= forwarded.answer.status <= 299:
            return forwarded
        path = storage_path(forwarded)
        if not body.whole:
            raise BadUpstreamAnswer(details={"reason": "answered before it had the chunk"})
        return record_chunk(place, body, path)


def require_active(user_id: str, session_id: uuid.UUID) -> None:
    """Raise NotFound for a session that is not the user's, WrongSessionState for one that is over."""
    mine = Session.objects.owned_by(user_id).filter(pk=session_id)
    status = mine.values_list("status", flat=True).first()
    if status is None:
        raise NotFound()
    if status != Session.Status.ACTIVE:
        raise WrongSessionState(details={"status": status})


def take_place(session_id: uuid.UUID, index: int, size: int) -> Upload | Chunk:
    """Return an upload that holds the index, or the chunk that is recorded there; raise ChunkUnderWay or NotFound."""
    token = uuid.uuid4().hex
    row = Chunk(session_id=session_id, index=index, size=size, upload=token, lease_until=lease_end())
    upload = Upload(session_id, row.pk, index, token)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        found = chunk_at(session_id, index)
        if found is None:
            # The session was deleted in this moment, or the other upload gave up.
            require_there(session_id)
            raise under_way(index) from None
        return found if found.state == RECORDED else take_over(found, upload, size)
    return upload


def chunk_at(session_id: uuid.UUID, index: int) -> Chunk | None:
    """Return the row of the index, whoever holds it."""
    # In the order of all chunks, it would look for their sessions, too.
    return Chunk.objects.filter(session_id=session_id, index=index).order_by().first()


def require_there(session_id: uuid.UUID) -> None:
    """Raise NotFound for a session that was deleted."""
    if not Session.objects.undeleted().filter(pk=session_id).exists():
        raise NotFound()


def take_over(found: Chunk, upload: Upload, size: int) -> Upload:
    """Return the upload with the row of one that nobody goes on with; raise ChunkUnderWay if somebody may."""
    now = timezone.now()
    dead = Chunk.objects.filter(pk=found.pk, upload=found.upload, state=UPLOADING, lease_until__lte=now)
    if not dead.update(upload=upload.token, lease_until=lease_end(), size=size):
        left = (found.lease_until - now).total_seconds() if found.lease_until else 1.0
        raise under_way(found.index, left)
    upload.chunk_id = found.pk
    return upload


def repeated(chunk: Chunk, body: ChunkBody) -> Uploaded:
    """Return the recorded chunk if the body is the same, which an announced hash tells; else raise AlreadyExists."""
    same = body.length in (None, chunk.size) and (body.announced or body.read_all()) == chunk.hash
    if not same:
        raise AlreadyExists("Another chunk has this index", details={"index": chunk.index, "hash": chunk.hash})
    return Uploaded(chunk, created=False)


@contextlib.contextmanager
def held(upload: Upload) -> Iterator[None]:
    """Keep the upload's lease for the block; an upload that was not recorded leaves nothing behind."""
    with keeper.keeping(upload):
        try:
            yield
        except (DatabaseError, InterfaceError):
            raise  # whoever waits for it has waited long enough: the lease runs out, a recount finds the bytes
        except BaseException:
            drop(upload)
            raise
        if not upload.recorded:
            drop(upload)


def drop(upload: Upload) -> None:
    """Remove the row of an upload that came to nothing and give its bytes back; without a database its lease runs out
    and the next recount finds the bytes.
    """
    try:
        version = version_of(upload.session_id)
        gone, _ = upload.row().delete()
        if gone:
            give_back(upload.session_id, size=upload.reserved, version=version)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("upload not dropped", extra={"error": type(error).__name__, "chunk": str(upload.chunk_id)})


def before_end(upload: Upload) -> None:
    """Make sure of the index before the cluster gets the body's end, and keep it until the cluster has answered."""
    try:
        upload.make_sure()
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseUnavailable() from error  # who reads the body takes all but our own errors for the client's
    upload.moved(ANSWER_SECONDS)


def send(request: HttpRequest, caller: Identity, session_id: uuid.UUID, body: ChunkBody) -> Forwarded:
    """Forward the upload by its row of the route table; a client that leaves after its last byte does not end it."""
    record_of(request).cluster = CHUNK_UPLOAD.cluster
    request.META["wsgi.input"] = body
    target = CHUNK_UPLOAD.target({"session_id": str(session_id)}, request.META.get("QUERY_STRING", ""))
    cluster = cluster_named(CHUNK_UPLOAD.cluster)
    return forward(request, CHUNK_UPLOAD, cluster, caller=caller, target=target, watch_client=False)


def storage_path(forwarded: Forwarded) -> str:
    """Return where the cluster says that it keeps the chunk, an empty text if it does not; the connection is free then.

    That it accepted the chunk its status has said: what is wrong with the rest of the answer does not matter.
    """
    received = bytearray()
    try:
        # Not through the body itself: a cut answer of the cluster is none of the client's connection.
        for piece in forwarded.body.pieces:
            received += piece
            if len(received) > MAX_ANSWER:
                return ""
        answer: Any = json.loads(received)
    except (OSError, ValueError):
        return ""
    finally:
        forwarded.body.close()
    path = answer.get("storage_path") if isinstance(answer, dict) else None
    return path if isinstance(path, str) and len(path) <= MAX_PATH and "\0" not in path else ""


def record_chunk(upload: Upload, body: ChunkBody, path: str) -> Uploaded:
    """Record what the cluster has accepted, and give back what was reserved too much; raise ChunkUnderWay or NotFound
    if the place was lost meanwhile.
    """
    too_much = upload.reserved - body.size
    version = version_of(upload.session_id) if too_much else None
    facts = {"size": body.size, "hash": body.hash, "storage_path": path, "created_at": moment()}
    if not upload.row().update(state=RECORDED, upload="", lease_until=None, **facts):
        return recorded_by_another(upload, body)
    upload.recorded = True
    if too_much:
        with contextlib.suppress(DatabaseError, InterfaceError):  # the next recount finds it
            give_back(upload.session_id, size=too_much, version=version)
    chunk = Chunk(pk=upload.chunk_id, session_id=upload.session_id, index=upload.index, state=RECORDED, **facts)
    return Uploaded(chunk, created=True)


def recorded_by_another(upload: Upload, body: ChunkBody) -> Uploaded:
    """Return the same chunk as recorded by whoever took the place over; raise ChunkUnderWay or NotFound."""
    chunk = chunk_at(upload.session_id, upload.index)
    if chunk is None or chunk.state != RECORDED:
        require_there(upload.session_id)
        raise under_way(upload.index)
    return repeated(chunk, body)
