"""Deleting sessions: marked first, and from then on gone for everyone; the cluster is told, then the rows go.

Each step may be done again, so a deletion that broke off anywhere is finished by the next DELETE or `prune_sessions`.
"""

import uuid

from django.db.models import F
from django.utils import timezone

from accounts.models import User
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import current_record
from lucid_gateway.policy.errors import GatewayError, NotFound, PreconditionFailed
from lucid_gateway.policy.roles import Role
from proxy.connection.headers import Identity
from proxy.forwarding.calls import call
from sessions_api.models import Chunk, Manifest, Session
from sessions_api.totals import uploading

CLUSTER = "session_management"
CHUNKS_AT_A_TIME = 5_000


def delete_session(session: Session, *, version: int | None, by: Identity) -> bool:
    """Delete the session, in its given version or in any; return whether all is done, False if the cluster has yet to
    be told. Raises PreconditionFailed or NotFound.
    """
    if not session.is_deleted:
        begin_deletion(session, version=version)
    return finish_deletion(session, by=by)


def begin_deletion(session: Session, *, version: int | None) -> None:
    """Mark the session: no upload gets room any more and its place is free. Raises PreconditionFailed or NotFound."""
    now = timezone.now()
    conditions = {} if version is None else {"version": version}
    rows = Session.objects.filter(pk=session.pk)
    marked = rows.undeleted().filter(**conditions).update(
        deleted_at=now, updated_at=now, active_slot=None, status=Session.Status.CANCELLED, version=F("version") + 1
    )  # fmt: skip
    if marked:
        record("session.deleted", subject=str(session.pk), actor=str(session.user_id), status=session.status)
    elif rows.undeleted().exists():
        raise PreconditionFailed()
    elif not rows.exists():
        raise NotFound()


def finish_deletion(session: Session, *, by: Identity) -> bool:
    """Tell the cluster and remove what is kept of a marked session; return False if it is to be tried again."""
    if uploading([session]) or not tell_cluster(session, by=by):
        return False
    # Noted before the last row is gone: after it nothing would remember.
    record("session.purged", subject=str(session.pk), actor=current_record().actor or str(session.user_id))
    Manifest.objects.filter(session_id=session.pk).delete()
    delete_chunks(session.pk)
    Session.objects.filter(pk=session.pk).delete()
    return True


def delete_chunks(session_id: uuid.UUID) -> None:
    """Delete the rows of the session's chunks, some at a time: SQLite lets nobody else write meanwhile."""
    rows = Chunk.objects.filter(session_id=session_id).order_by()
    while keys := list(rows.values_list("pk", flat=True)[:CHUNKS_AT_A_TIME]):
        Chunk.objects.filter(pk__in=keys).delete()


def tell_cluster(session: Session, *, by: Identity) -> bool:
    """Let the cluster drop what it has of the session; return whether it has nothing any more."""
    request_id = current_record().request_id or str(uuid.uuid4())
    try:
        answer = call(CLUSTER, "DELETE", f"/api/v1/sessions/{session.pk}", caller=by, request_id=request_id)
    except GatewayError:
        return False
    return answer.succeeded or answer.status == 404


def owner_of(user: User) -> Caller:
    """Return the user as the caller, for what is done later on their behalf."""
    return Caller(str(user.pk), Role(user.role), jti="", family="", expires_at=0)
