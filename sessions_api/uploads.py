"""Uploading a chunk: reserve its index and its bytes, forward the body, and record what the cluster has accepted.

Each step is one conditional update or a unique key. An interruption leaves at most a row whose lease expires and some
excess reserved bytes. The next upload of the index takes the row over; a recount, made when space runs out, corrects
the bytes.
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

from lucid_gateway.kernel.clock import now_ms
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
from sessions_api.reservations import give_back, reserve, version_of
from sessions_api.upload_leases import Upload, chunk_in_progress, lease_end, lease_renewer

logger = logging.getLogger(__name__)
MAX_ANSWER = 64 * 1024
MAX_PATH = 500
OTHER_CHUNK = "This index already has a different chunk"
# The client has nothing more to send: the cluster has the whole body and may take its full timeout to answer.
ANSWER_SECONDS = CHUNK_UPLOAD.timeouts.total + CHUNK_UPLOAD.timeouts.connect
RECORDED, UPLOADING = Chunk.State.RECORDED, Chunk.State.UPLOADING


@dataclass(frozen=True)
class Uploaded:
    """A recorded chunk; `created` is False if it was already recorded before this upload."""

    chunk: Chunk
    created: bool


def upload_chunk(
    request: HttpRequest, caller: Identity, *, session_id: uuid.UUID, index: int, body: ChunkBody
) -> Uploaded | Forwarded:
    """Send the body to the cluster and record the chunk; return it, or the cluster's answer if that is no 2xx.

    Raises NotFound, WrongSessionState, SessionTooLarge, ChunkTooLarge, ChunkInProgress, AlreadyExists if the index has
    different content, InvalidRequest for an empty body or one with another hash, and all that `forward` raises.
    """
    try:
        require_active(caller.user_id, session_id)
    except WrongSessionState:
        chunk = chunk_at(session_id, index)
        if chunk is None or chunk.state != RECORDED:
            raise
        return accept_repeat(chunk, body)  # for a client that never got the answer, after its session has ended
    size = body.length or MAX_CHUNK
    upload = claim_index(session_id, index, size)
    if isinstance(upload, Chunk):
        return accept_repeat(upload, body)
    with holding_lease(upload):
        upload.reserved = reserve(
            session_id, owner=caller.user_id, size=size, minimum=body.length or 1, own_chunk_id=upload.chunk_id
        )
        if upload.reserved < size:
            upload.row().update(size=upload.reserved)
            body.limit = upload.reserved
        body.on_progress, body.before_last_piece = upload.note_progress, lambda: before_last_piece(upload)
        body.peek()
        forwarded = send(request, caller, session_id, body)
        if not 200 <= forwarded.answer.status <= 299:
            return forwarded
        path = read_storage_path(forwarded)
        if not body.complete:
            raise BadUpstreamAnswer(details={"reason": "answered before it had the whole chunk"})
        return record_chunk(upload, body, path)


def require_active(user_id: str, session_id: uuid.UUID) -> None:
    """Raise NotFound if the user has no such session, WrongSessionState if it is over."""
    mine = Session.objects.owned_by(user_id).filter(pk=session_id)
    status = mine.values_list("status", flat=True).first()
    if status is None:
        raise NotFound()
    if status != Session.Status.ACTIVE:
        raise WrongSessionState(details={"status": status})


def claim_index(session_id: uuid.UUID, index: int, size: int) -> Upload | Chunk:
    """Return an upload that holds the index, or the chunk recorded at it; raise ChunkInProgress or NotFound."""
    token = uuid.uuid4().hex
    row = Chunk(session_id=session_id, index=index, size=size, upload=token, lease_until=lease_end())
    upload = Upload(session_id, row.pk, index, token)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        found = chunk_at(session_id, index)
        if found is None:
            # Meanwhile the session was deleted, or the other upload was discarded.
            require_session(session_id)
            raise chunk_in_progress(index) from None
        return found if found.state == RECORDED else take_over(found, upload, size)
    return upload


def chunk_at(session_id: uuid.UUID, index: int) -> Chunk | None:
    """Return the row at the index, recorded or still uploading; None if there is none."""
    return Chunk.objects.filter(session_id=session_id, index=index).order_by().first()


def require_session(session_id: uuid.UUID) -> None:
    if not Session.objects.undeleted().filter(pk=session_id).exists():
        raise NotFound()


def take_over(found: Chunk, upload: Upload, size: int) -> Upload:
    """Give the row of an abandoned upload to this one; raise ChunkInProgress if the other lease is still valid."""
    now = timezone.now()
    held = Chunk.objects.filter(session_id=found.session_id, pk=found.pk, upload=found.upload)
    dead = held.filter(state=UPLOADING, lease_until__lte=now)
    if not dead.update(upload=upload.token, lease_until=lease_end(), size=size):
        left = (found.lease_until - now).total_seconds() if found.lease_until else 1.0
        raise chunk_in_progress(found.index, left)
    upload.chunk_id = found.pk
    return upload


def accept_repeat(chunk: Chunk, body: ChunkBody) -> Uploaded:
    """Return the recorded chunk if the body is the same, else raise AlreadyExists. The client's hash saves reading the
    body.
    """
    same = body.length in (None, chunk.size) and (body.expected_hash or body.read_all()) == chunk.hash
    if not same:
        raise AlreadyExists(OTHER_CHUNK, details={"index": chunk.index, "hash": chunk.hash})
    return Uploaded(chunk, created=False)


@contextlib.contextmanager
def holding_lease(upload: Upload) -> Iterator[None]:
    """Keep the upload's lease during the block; afterwards discard an upload that was not recorded."""
    with lease_renewer.renewing(upload):
        try:
            yield
        except (DatabaseError, InterfaceError):
            raise  # no further query, the client has waited long enough: the lease expires, a recount finds the bytes
        except BaseException:
            discard(upload)
            raise
        if not upload.recorded:
            discard(upload)


def discard(upload: Upload) -> None:
    """Remove the row of a failed upload and return its bytes. If the database is unavailable, the lease expires and the
    next recount corrects the bytes.
    """
    try:
        version = version_of(upload.session_id)
        gone, _ = upload.row().delete()
        if gone:
            give_back(upload.session_id, size=upload.reserved, version=version)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("upload not dropped", extra={"error": type(error).__name__, "chunk": str(upload.chunk_id)})


def before_last_piece(upload: Upload) -> None:
    """Confirm the lease before the cluster gets the end of the body, and keep it until the cluster has answered."""
    try:
        upload.confirm_lease()
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseUnavailable() from error  # ChunkBody's reader blames all but the gateway's errors on the client
    upload.note_progress(ANSWER_SECONDS)


def send(request: HttpRequest, caller: Identity, session_id: uuid.UUID, body: ChunkBody) -> Forwarded:
    """Forward the upload along its route. A client that disconnects after its last byte does not abort it."""
    record_of(request).cluster = CHUNK_UPLOAD.cluster
    request.META["wsgi.input"] = body
    target = CHUNK_UPLOAD.target({"session_id": str(session_id)}, request.META.get("QUERY_STRING", ""))
    cluster = cluster_named(CHUNK_UPLOAD.cluster)
    return forward(request, CHUNK_UPLOAD, cluster, caller=caller, target=target, watch_client=False)


def read_storage_path(forwarded: Forwarded) -> str:
    """Return the `storage_path` from the cluster's answer, an empty string if it has none; release the connection.

    The status has already accepted the chunk, so an invalid body of the answer is no error.
    """
    received = bytearray()
    try:
        # `pieces`, because reading `body` itself would cut the client's connection if the cluster's answer is cut.
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
    """Record the chunk that the cluster has accepted, and return excess reserved bytes.

    Raises ChunkInProgress or NotFound if the upload lost its lease meanwhile.
    """
    excess = upload.reserved - body.size
    version = version_of(upload.session_id) if excess else None
    facts = {"size": body.size, "hash": body.hash, "storage_path": path, "created_at": now_ms()}
    if not upload.row().update(state=RECORDED, upload="", lease_until=None, **facts):
        return recorded_by_another(upload, body)
    upload.recorded = True
    if excess:
        with contextlib.suppress(DatabaseError, InterfaceError):  # the next recount finds them
            give_back(upload.session_id, size=excess, version=version)
    chunk = Chunk(pk=upload.chunk_id, session_id=upload.session_id, index=upload.index, state=RECORDED, **facts)
    return Uploaded(chunk, created=True)


def recorded_by_another(upload: Upload, body: ChunkBody) -> Uploaded:
    """Return the same chunk if the upload that took the index over recorded it; raise ChunkInProgress or NotFound."""
    chunk = chunk_at(upload.session_id, upload.index)
    if chunk is None or chunk.state != RECORDED:
        require_session(upload.session_id)
        raise chunk_in_progress(upload.index)
    return accept_repeat(chunk, body)
