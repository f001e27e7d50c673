"""Sessions: beginning one, changing it, and its way from active to completed, failed or cancelled, never back.

Each change is one conditional update: it names what the row must be for the change to be allowed, so that of several
at once those succeed that could have followed one another.
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

from accounts.idempotency import made_once
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.places import take_place
from lucid_gateway.policy.errors import NotFound, OperationNotAllowed, PreconditionFailed, WrongSessionState
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.sessions import MAX_ACTIVE
from sessions_api.moments import moment
from sessions_api.reservations import forget_abandoned
from sessions_api.totals import settle

ACTIVE = Session.Status.ACTIVE
# What only an active session lets change: the room for its chunks, and by which rules it is recorded.
WHILE_ACTIVE = frozenset({"status", "max_size_bytes", "trust_policy_id"})


class TooManyActiveSessions(OperationNotAllowed):
    """A user has as many active sessions as one may have; `details.limit` says how many."""

    status, text = 409, f"No more than {MAX_ACTIVE} active sessions"


def create_session(
    user_id: str, *, session_id: uuid.UUID | None = None, trust_policy_id: uuid.UUID | None = None, **fields: Any
) -> Session:
    """Begin a session of the user, under that id once; raise TooManyActiveSessions, or ValidationError for a policy
    that is not theirs.
    """
    insert = partial(
        insert_session, user_id, session_id=session_id or uuid.uuid4(), trust_policy_id=trust_policy_id, **fields
    )
    return made_once(Session.objects.owned_by(user_id), session_id, insert)


def insert_session(user_id: str, *, trust_policy_id: uuid.UUID | None, **fields: Any) -> Session:
    """Insert a session on one of its user's places; raise as `create_session` does."""
    with own_policy(user_id, trust_policy_id):
        now = moment()
        session = Session(
            user_id=user_id, trust_policy_id=trust_policy_id, created_at=now, updated_at=now, started_at=now, **fields
        )
        if not take_place(session, "active_slot", places=MAX_ACTIVE):
            raise TooManyActiveSessions(details={"limit": MAX_ACTIVE})
    let_go_of_lost_policy(session)
    record("session.created", subject=str(session.pk), actor=user_id, max_size_bytes=session.max_size_bytes)
    return session


def let_go_of_lost_policy(session: Session) -> None:
    """Take from the session a policy that was deleted in the very moment in which it was assigned: MongoDB has no
    foreign keys.
    """
    policy_id = session.trust_policy_id
    if policy_id is not None and not TrustPolicy.objects.filter(pk=policy_id).exists():
        lost = Session.objects.filter(pk=session.pk, trust_policy_id=policy_id)
        lost.update(trust_policy_id=None, version=F("version") + 1)
        session.refresh_from_db()


@contextmanager
def own_policy(user_id: uuid.UUID | str, policy_id: uuid.UUID | None) -> Iterator[None]:
    """Assign the policy in the block; raise as `require_own_policy` does, for one that is deleted meanwhile, too."""
    require_own_policy(user_id, policy_id)
    try:
        yield
    except IntegrityError:  # SQLite itself looks
        require_own_policy(user_id, policy_id)
        raise


def require_own_policy(user_id: uuid.UUID | str, policy_id: uuid.UUID | None) -> None:
    """Raise ValidationError if the user has no such policy: another user's is as unknown as one that is nobody's."""
    if policy_id and not TrustPolicy.objects.filter(user_id=user_id, pk=policy_id).exists():
        raise ValidationError({"trust_policy_id": "You have no such policy."}, code="does_not_exist")


def replace_session(session: Session, *, version: int | None, description: str = "", **fields: Any) -> Session:
    """Change what is given and empty what can be empty (PUT); raise as `change_session` does.

    The status that the session has already is no transition: what was read may be sent back.
    """
    if fields.get("status") == session.status:
        del fields["status"]
    return change_session(session, version=version, changes={"description": description, "metadata": {}} | fields)


def change_session(session: Session, *, version: int | None, changes: Mapping[str, Any]) -> Session:
    """Change the fields of a session, in its given version or in any; return it as it is then.

    A status asks for the transition to it. Raises WrongSessionState, PreconditionFailed, NotFound or ValidationError,
    with nothing changed.
    """
    asked = {name: value for name, value in changes.items() if not alike(value, getattr(session, name))}
    if changes.get("status", ACTIVE) != ACTIVE:
        asked["status"] = changes["status"]
    if not asked:
        return session
    if asked.get("status") == ACTIVE:
        raise WrongSessionState(details={"status": session.status})
    with own_policy(session.user_id, asked.get("trust_policy_id")):
        if not update(session, version, asked):
            refuse(session, version, asked)
    return changed(session, asked.get("status"))


def alike(value: Any, other: Any) -> bool:
    """Return whether two values of a field are the same, in JSON, too: to Python 1, 1.0 and true are equal."""
    return bool(value == other) and (
        not isinstance(value, dict) or json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def update(session: Session, version: int | None, asked: Mapping[str, Any]) -> int:
    """Do the one conditional update; return how many rows it found."""
    now = moment()
    conditions: dict[str, Any] = {"version": version} if version is not None else {}
    if WHILE_ACTIVE.intersection(asked):
        conditions["status"] = ACTIVE
    if "max_size_bytes" in asked:
        conditions["reserved_bytes__lte"] = asked["max_size_bytes"]
    rows = Session.objects.undeleted().filter(pk=session.pk, **conditions)
    return rows.update(**asked, **ending(asked, now), updated_at=now, version=F("version") + 1)


def ending(asked: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what goes with the end of a session: its time, and its place is free."""
    return {"completed_at": now, "active_slot": None} if "status" in asked else {}


def refuse(session: Session, version: int | None, asked: Mapping[str, Any]) -> NoReturn:
    """Raise why the session could not be changed; PreconditionFailed, too, if it could be now."""
    now_there = there(session)
    if version not in (None, now_there.version):
        raise PreconditionFailed()
    if now_there.status != ACTIVE:
        raise WrongSessionState(details={"status": now_there.status})
    forget_abandoned(session.pk)
    taken = there(session).reserved_bytes
    if taken <= asked["max_size_bytes"]:
        raise PreconditionFailed()
    text = f"Uploads have taken {taken} bytes already."
    raise ValidationError({"max_size_bytes": text}, code="min_value")


def changed(session: Session, status: str | None) -> Session:
    """Return the session as it is now; note the end of one that has come to it."""
    session = there(session)
    let_go_of_lost_policy(session)
    if status is not None:
        record(f"session.{status}", subject=str(session.pk), actor=str(session.user_id))
        settle(session)
    return session


def there(session: Session) -> Session:
    """Return the session as the database has it; raise NotFound if it was deleted."""
    found = Session.objects.undeleted().filter(pk=session.pk).first()
    if found is None:
        raise NotFound()
    return found
