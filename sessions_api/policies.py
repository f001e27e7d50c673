"""Creating, changing and deleting trust policies, at most fifty per user.

Each change is one conditional update; nothing here relies on a transaction over several rows.
"""

import uuid
from functools import partial
from typing import Any

from django.db import IntegrityError
from django.db.models import F, ProtectedError

from accounts.idempotency import create_once
from lucid_gateway.audit.events import changed, record
from lucid_gateway.kernel.clock import now_ms
from lucid_gateway.kernel.slots import take_slot
from lucid_gateway.policy.errors import NotFound, OperationNotAllowed, PreconditionFailed
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.policies import MAX_POLICIES

MAX_SESSIONS_LISTED = 10


class TooManyPolicies(OperationNotAllowed):
    """The user has the maximum number of policies, `details.limit`."""

    status, text = 409, f"A user can have at most {MAX_POLICIES} trust policies"


class PolicyInUse(OperationNotAllowed):
    """Sessions refer to the policy: `details.sessions` is their number, `details.session_ids` lists up to ten."""

    status, text = 409, "Sessions refer to the policy"


def create_policy(user_id: uuid.UUID | str, *, policy_id: uuid.UUID | None = None, **fields: Any) -> TrustPolicy:
    """Create a policy for the user, only once per `policy_id`; raise TooManyPolicies.

    `fields` are name, description, rules and enabled.
    """
    insert = partial(insert_policy, user_id, policy_id=policy_id or uuid.uuid4(), **fields)
    return create_once(TrustPolicy.objects.owned_by(user_id), policy_id, insert)


def insert_policy(user_id: uuid.UUID | str, **fields: Any) -> TrustPolicy:
    """Insert a policy into one of its user's slots; raise TooManyPolicies."""
    now = now_ms()
    policy = TrustPolicy(user_id=user_id, created_at=now, updated_at=now, **fields)
    if not take_slot(policy, "slot", slots=MAX_POLICIES):
        raise TooManyPolicies(details={"limit": MAX_POLICIES})
    record("trust_policy.created", subject=str(policy.pk), actor=str(user_id), rules=len(policy.rules))
    return policy


def change_policy(policy: TrustPolicy, *, version: int | None, **changes: Any) -> TrustPolicy:
    """Change fields of the policy if it has the given version (None: any); return the changed policy.

    Raises PreconditionFailed or NotFound; then nothing has changed.
    """
    if changes:
        before = {name: getattr(policy, name) for name in changes}
        update_row(policy, version, **changes, updated_at=now_ms())
        record(
            "trust_policy.changed", subject=str(policy.pk), actor=str(policy.user_id), fields=sorted(changes),
            changes=changed(before, changes),
        )  # fmt: skip
    found = TrustPolicy.objects.filter(pk=policy.pk).first()
    if found is None:
        raise NotFound()
    return found


def update_row(policy: TrustPolicy, version: int | None, **changes: Any) -> None:
    """Apply the changes and increment the version in one conditional update; raise PreconditionFailed or NotFound."""
    rows = TrustPolicy.objects.filter(pk=policy.pk)
    of_version = rows if version is None else rows.filter(version=version)
    if not of_version.update(**changes, version=F("version") + 1):
        raise PreconditionFailed() if rows.exists() else NotFound()


def delete_policy(policy: TrustPolicy, *, version: int | None, detach: bool = False) -> None:
    """Delete the policy if it has the given version (None: any); `detach` first removes it from its sessions.

    Raises PolicyInUse without `detach`, PreconditionFailed or NotFound.
    """
    if not detach:
        refuse_in_use(policy)
    update_row(policy, version)
    detached = detach_sessions(policy, only_deleted=not detach)
    try:
        deleted, _ = TrustPolicy.objects.filter(pk=policy.pk).delete()
    except (ProtectedError, IntegrityError) as error:
        raise PolicyInUse(details=references_to(policy)) from error  # it was just assigned to a session
    if not deleted:
        raise NotFound()
    # MongoDB has no foreign keys: a session to which the policy was assigned meanwhile loses it again.
    detached += detach_sessions(policy)
    record("trust_policy.deleted", subject=str(policy.pk), actor=str(policy.user_id), detached_sessions=detached)


def refuse_in_use(policy: TrustPolicy) -> None:
    references = references_to(policy)
    if references["sessions"]:
        raise PolicyInUse(details=references)


def references_to(policy: TrustPolicy) -> dict[str, Any]:
    """Return the number of undeleted sessions that refer to the policy, and the ids of the first ones."""
    sessions = Session.objects.undeleted().filter(trust_policy_id=policy.pk)
    ids = sessions.order_by("pk").values_list("pk", flat=True)[:MAX_SESSIONS_LISTED]
    return {"sessions": sessions.count(), "session_ids": [str(pk) for pk in ids]}


def detach_sessions(policy: TrustPolicy, *, only_deleted: bool = False) -> int:
    """Remove the policy from the sessions that refer to it, or only from half-deleted ones; return their number."""
    sessions = Session.objects.half_deleted() if only_deleted else Session.objects.all()
    referring = sessions.filter(trust_policy_id=policy.pk)
    return referring.update(trust_policy=None, version=F("version") + 1, updated_at=now_ms())
