"""The life of a session: creation, changes, and its one transition from active to completed, failed or cancelled.

Each change is one conditional update that names the required state of the row, so that concurrent changes have the same
result as if they had been made one after another.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from django.db import IntegrityError
from django.db.models import F
from rest_framework.serializers import ValidationError

from accounts.idempotency import create_once
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.clock import now_ms
from lucid_gateway.kernel.slots import take_slot
from lucid_gateway.policy.errors import NotFound, OperationNotAllowed, PreconditionFailed, WrongSessionState
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.sessions import MAX_ACTIVE
from sessions_api.reservations import remove_abandoned
from sessions_api.totals import settle

ACTIVE = Session.Status.ACTIVE
# Fields that can change only while the session is active: they govern its uploads.
WHILE_ACTIVE = frozenset({"status", "max_size_bytes", "trust_policy_id"})


class TooManyActiveSessions(OperationNotAllowed):
    """The user has the maximum number of active sessions, `details.limit`."""

    status, text = 409, f"A user can have at most {MAX_ACTIVE} active sessions"


def create_session(
    user_id: str, *, session_id: uuid.UUID | None = None, trust_policy_id: uuid.UUID | None = None, **fields: Any
) -> Session:
    """Create a session for the user, only once per `session_id`.

    Raises TooManyActiveSessions, or ValidationError if the policy does not belong to the user.
    """
    insert = partial(
        insert_session, user_id, session_id=session_id or uuid.uuid4(), trust_policy_id=trust_policy_id, **fields
    )
    return create_once(Session.objects.owned_by(user_id), session_id, insert)


def insert_session(user_id: str, *, trust_policy_id: uuid.UUID | None, **fields: Any) -> Session:
    """Insert a session into one of its user's slots; raise as `create_session` does."""
    with assigning_policy(user_id, trust_policy_id):
        now = now_ms()
        session = Session(
            user_id=user_id, trust_policy_id=trust_policy_id, created_at=now, updated_at=now, started_at=now, **fields
        )
        if not take_slot(session, "active_slot", slots=MAX_ACTIVE):
            raise TooManyActiveSessions(details={"limit": MAX_ACTIVE})
    release_missing_policy(session)
    record("session.created", subject=str(session.pk), actor=user_id, max_size_bytes=session.max_size_bytes)
    return session


def release_missing_policy(session: Session) -> None:
    """Remove a policy from the session if it was deleted while it was assigned: MongoDB has no foreign keys."""
    policy_id = session.trust_policy_id
    if policy_id is not None and not TrustPolicy.objects.filter(pk=policy_id).exists():
        lost = Session.objects.filter(pk=session.pk, trust_policy_id=policy_id)
        lost.update(trust_policy_id=None, version=F("version") + 1)
        session.refresh_from_db()


@contextmanager
def assigning_policy(user_id: uuid.UUID | str, policy_id: uuid.UUID | None) -> Iterator[None]:
    """Assign the policy in the block; raise as `require_own_policy` does, also if it is deleted during the block."""
    require_own_policy(user_id, policy_id)
    try:
        yield
    except IntegrityError:  # SQLite checks the foreign key
        require_own_policy(user_id, policy_id)
        raise


def require_own_policy(user_id: uuid.UUID | str, policy_id: uuid.UUID | None) -> None:
    """Raise ValidationError unless the policy belongs to the user. The error does not reveal other policies."""
    if policy_id and not TrustPolicy.objects.filter(user_id=user_id, pk=policy_id).exists():
        raise ValidationError({"trust_policy_id": "You have no trust policy with this id."}, code="does_not_exist")


def replace_session(session: Session, *, version: int | None, description: str = "", **fields: Any) -> Session:
    """Set the given fields and empty an omitted description or metadata (PUT); raise as `change_session` does.

    Sending the current status is no transition, so that a client can send back what it has read.
    """
    if fields.get("status") == session.status:
        del fields["status"]
    return change_session(session, version=version, changes={"description": description, "metadata": {}} | fields)


def change_session(session: Session, *, version: int | None, changes: Mapping[str, Any]) -> Session:
    """Change fields of a session if it has the given version (None: any); return the changed session.

    A status requests the transition to it. Raises WrongSessionState, PreconditionFailed, NotFound or ValidationError;
    then nothing has changed.
    """
    requested = {name: value for name, value in changes.items() if not same_content(value, getattr(session, name))}
    if changes.get("status", ACTIVE) != ACTIVE:
        requested["status"] = changes["status"]
    if not requested:
        return session
    if requested.get("status") == ACTIVE:
        raise WrongSessionState(details={"status": session.status})
    with assigning_policy(session.user_id, requested.get("trust_policy_id")):
        if not try_update(session, version, requested):
            explain_refusal(session, version, requested)
    return finish_change(session, requested.get("status"))


def same_content(value: Any, other: Any) -> bool:
    """Return whether two values are equal also as JSON: in Python 1, 1.0 and True are equal."""
    return bool(value == other) and (
        not isinstance(value, dict) or json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def try_update(session: Session, version: int | None, requested: Mapping[str, Any]) -> int:
    """Apply the changes if the session allows them; return how many rows were updated, 0 or 1."""
    now = now_ms()
    conditions: dict[str, Any] = {"version": version} if version is not None else {}
    if WHILE_ACTIVE.intersection(requested):
        conditions["status"] = ACTIVE
    if "max_size_bytes" in requested:
        conditions["reserved_bytes__lte"] = requested["max_size_bytes"]
    rows = Session.objects.undeleted().filter(pk=session.pk, **conditions)
    return rows.update(**requested, **ending_fields(requested, now), updated_at=now, version=F("version") + 1)


def ending_fields(requested: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the further changes that end a session: the time of its end and its free slot."""
    return {"completed_at": now, "active_slot": None} if "status" in requested else {}


def explain_refusal(session: Session, version: int | None, requested: Mapping[str, Any]) -> NoReturn:
    """Raise the reason for which the update found no row; PreconditionFailed if that reason is gone by now."""
    current = reload_session(session)
    if version not in (None, current.version):
        raise PreconditionFailed()
    if current.status != ACTIVE:
        raise WrongSessionState(details={"status": current.status})
    remove_abandoned(session.pk)
    taken = reload_session(session).reserved_bytes
    if taken <= requested["max_size_bytes"]:
        raise PreconditionFailed()
    text = f"Uploads already use {taken} bytes."
    raise ValidationError({"max_size_bytes": text}, code="min_value")


def finish_change(session: Session, status: str | None) -> Session:
    """Return the changed session; if it has ended, record the event and store its totals."""
    session = reload_session(session)
    release_missing_policy(session)
    if status is not None:
        changes = {"status": [str(ACTIVE), str(status)]}  # a session that has ended has no further status
        record(f"session.{status}", subject=str(session.pk), actor=str(session.user_id), changes=changes)
        settle(session)
    return session


def reload_session(session: Session) -> Session:
    """Return the session from the database; raise NotFound if it was deleted."""
    found = Session.objects.undeleted().filter(pk=session.pk).first()
    if found is None:
        raise NotFound()
    return found
