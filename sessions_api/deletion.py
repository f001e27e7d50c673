"""Deleting sessions. A mark hides the session from every reader, then the cluster deletes its data, then the rows go.

Each step can be repeated: the next DELETE or `prune_sessions` finishes a deletion that was interrupted anywhere.
"""

import uuid

from django.db.models import F
from django.utils import timezone

from accounts.models import User
from lucid_gateway.audit.events import changed, record
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import current_record
from lucid_gateway.policy.errors import GatewayError, NotFound, PreconditionFailed
from lucid_gateway.policy.roles import Role
from proxy.connection.headers import Identity
from proxy.forwarding.calls import call
from sessions_api.models import Chunk, Manifest, Session
from sessions_api.totals import uploading

CLUSTER = "session_management"
CHUNKS_PER_DELETE = 5_000


def delete_session(session: Session, *, version: int | None, by: Identity) -> bool:
    """Delete the session if it has the given version (None: any); return False if the cluster still holds its data.

    Raises PreconditionFailed or NotFound.
    """
    if not session.is_deleted:
        begin_deletion(session, version=version)
    return finish_deletion(session, by=by)


def begin_deletion(session: Session, *, version: int | None) -> None:
    """Mark the session as deleted, which stops new uploads and frees its slot; raise PreconditionFailed or NotFound."""
    now = timezone.now()
    conditions = {} if version is None else {"version": version}
    rows = Session.objects.filter(pk=session.pk)
    marked = rows.undeleted().filter(**conditions).update(
        deleted_at=now, updated_at=now, active_slot=None, status=Session.Status.CANCELLED, version=F("version") + 1
    )  # fmt: skip
    if marked:
        changes = changed({"status": session.status}, {"status": str(Session.Status.CANCELLED)})
        record(
            "session.deleted", subject=str(session.pk), actor=str(session.user_id), changes=changes,
            status=session.status,
        )  # fmt: skip
    elif rows.undeleted().exists():
        raise PreconditionFailed()
    elif not rows.exists():
        raise NotFound()


def finish_deletion(session: Session, *, by: Identity) -> bool:
    """Delete a marked session on the cluster, then its rows; return False if that must be retried."""
    if uploading([session]) or not delete_on_cluster(session, by=by):
        return False
    # Recorded first: once the rows are gone, a retry could not know that the event is missing.
    record("session.purged", subject=str(session.pk), actor=current_record().actor or str(session.user_id))
    Manifest.objects.filter(session_id=session.pk).delete()
    delete_chunks(session.pk)
    Session.objects.filter(pk=session.pk).delete()
    return True


def delete_chunks(session_id: uuid.UUID) -> None:
    """Delete the rows of the session's chunks in batches: SQLite blocks all other writers during each statement."""
    rows = Chunk.objects.filter(session_id=session_id).order_by()
    while keys := list(rows.values_list("pk", flat=True)[:CHUNKS_PER_DELETE]):
        Chunk.objects.filter(pk__in=keys).delete()


def delete_on_cluster(session: Session, *, by: Identity) -> bool:
    """Delete the session on the cluster; return whether the cluster holds no data of it any more."""
    request_id = current_record().request_id or str(uuid.uuid4())
    try:
        answer = call(CLUSTER, "DELETE", f"/api/v1/sessions/{session.pk}", caller=by, request_id=request_id)
    except GatewayError:
        return False
    return answer.succeeded or answer.status == 404


def caller_for(user: User) -> Caller:
    """Return a caller that acts on behalf of the user, for work after their own request."""
    return Caller(str(user.pk), Role(user.role), jti="", family="", expires_at=0)
