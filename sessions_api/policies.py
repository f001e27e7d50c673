"""Trust policies: made on one of fifty places of their user, changed, detached from sessions, deleted.

Each change is one conditional update; nothing here relies on a transaction over several rows.
"""

import uuid
from functools import partial
from typing import Any

from django.db import IntegrityError
from django.db.models import F, ProtectedError

from accounts.idempotency import made_once
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.places import take_place
from lucid_gateway.policy.errors import NotFound, OperationNotAllowed, PreconditionFailed
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.policies import MAX_POLICIES
from sessions_api.moments import moment

MOST_NAMED = 10


class TooManyPolicies(OperationNotAllowed):
    """A user has as many policies as one may have; `details.limit` says how many."""

    status, text = 409, f"No more than {MAX_POLICIES} trust policies"


class PolicyInUse(OperationNotAllowed):
    """Sessions refer to the policy; `details.sessions` says how many, `details.session_ids` names up to ten."""

    status, text = 409, "Sessions refer to the policy"


def create_policy(user_id: uuid.UUID | str, *, policy_id: uuid.UUID | None = None, **fields: Any) -> TrustPolicy:
    """Make a policy of the user, under that id once; raise TooManyPolicies. `fields` are name, description, rules and
    enabled.
    """
    insert = partial(insert_policy, user_id, policy_id=policy_id or uuid.uuid4(), **fields)
    return made_once(TrustPolicy.objects.owned_by(user_id), policy_id, insert)


def insert_policy(user_id: uuid.UUID | str, **fields: Any) -> TrustPolicy:
    """Insert a policy on one of its user's places; raise TooManyPolicies."""
    now = moment()
    policy = TrustPolicy(user_id=user_id, created_at=now, updated_at=now, **fields)
    if not take_place(policy, "slot", places=MAX_POLICIES):
        raise TooManyPolicies(details={"limit": MAX_POLICIES})
    record("trust_policy.created", subject=str(policy.pk), actor=str(user_id), rules=len(policy.rules))
    return policy


def change_policy(policy: TrustPolicy, *, version: int | None, **changes: Any) -> TrustPolicy:
    """Change fields of the policy, in its given version or in any; return it as it is then.

    Raises PreconditionFailed or NotFound, with nothing changed.
    """
    if changes:
        claim(policy, version, **changes, updated_at=moment())
        fields = sorted(changes)
        record("trust_policy.changed", subject=str(policy.pk), actor=str(policy.user_id), fields=fields)
    found = TrustPolicy.objects.filter(pk=policy.pk).first()
    if found is None:
        raise NotFound()
    return found


def claim(policy: TrustPolicy, version: int | None, **changes: Any) -> None:
    """Do the one conditional update, and count the version up; raise PreconditionFailed or NotFound."""
    rows = TrustPolicy.objects.filter(pk=policy.pk)
    of_version = rows if version is None else rows.filter(version=version)
    if not of_version.update(**changes, version=F("version") + 1):
        raise PreconditionFailed() if rows.exists() else NotFound()


def delete_policy(policy: TrustPolicy, *, version: int | None, detach: bool = False) -> None:
    """Delete the policy in its given version or in any, and with `detach` its sessions' references to it.

    Raises PolicyInUse without `detach`, PreconditionFailed or NotFound.
    """
    if not detach:
        refuse_in_use(policy)
    claim(policy, version)
    detached = detach_sessions(policy, only_deleted=not detach)
    try:
        deleted, _ = TrustPolicy.objects.filter(pk=policy.pk).delete()
    except (ProtectedError, IntegrityError) as error:
        raise PolicyInUse(details=users_of(policy)) from error  # a session has just taken it
    if not deleted:
        raise NotFound()
    # MongoDB keeps no reference from going nowhere: a session that took the policy at this very moment loses it again.
    detached += detach_sessions(policy)
    record("trust_policy.deleted", subject=str(policy.pk), actor=str(policy.user_id), detached_sessions=detached)


def refuse_in_use(policy: TrustPolicy) -> None:
    """Raise PolicyInUse if sessions refer to the policy."""
    users = users_of(policy)
    if users["sessions"]:
        raise PolicyInUse(details=users)


def users_of(policy: TrustPolicy) -> dict[str, Any]:
    """Return how many sessions refer to the policy, and the ids of some; those half deleted are no more."""
    sessions = Session.objects.undeleted().filter(trust_policy_id=policy.pk)
    ids = sessions.order_by("pk").values_list("pk", flat=True)[:MOST_NAMED]
    return {"sessions": sessions.count(), "session_ids": [str(pk) for pk in ids]}


def detach_sessions(policy: TrustPolicy, *, only_deleted: bool = False) -> int:
    """Take the policy from the sessions that refer to it, or of these from those half deleted; return how many."""
    sessions = Session.objects.half_deleted() if only_deleted else Session.objects.all()
    referring = sessions.filter(trust_policy_id=policy.pk)
    return referring.update(trust_policy=None, version=F("version") + 1, updated_at=moment())
