"""What accounts leave behind when they are deleted: recordings and policies, which go with them.

Accounts know nothing of sessions, so `prune_sessions` looks for these afterwards.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from accounts.models import User
from lucid_gateway.policy.errors import NotFound
from sessions_api.deletion import begin_deletion
from sessions_api.models import Session, TrustPolicy
from sessions_api.policies import delete_policy

BATCH = 500

Row = TypeVar("Row", bound=Model)


def left_behind(rows: QuerySet[Row]) -> Iterator[QuerySet[Row]]:
    """Yield those of the rows whose user's account is deleted, for some users at a time."""
    users: list[Any] = list(User.objects.exclude(deleted_at=None).order_by().values_list("pk", flat=True))
    for start in range(0, len(users), BATCH):
        yield rows.filter(user_id__in=users[start : start + BATCH]).order_by()


def count_sessions() -> int:
    """Return how many undeleted sessions deleted accounts have."""
    return sum(rows.count() for rows in left_behind(Session.objects.undeleted()))


def begin_deletions() -> None:
    """Mark the sessions of deleted accounts: their deletion is finished as any other that has begun."""
    for rows in left_behind(Session.objects.undeleted().only("user_id", "status", "deleted_at")):
        for session in rows:
            with suppress(NotFound):  # somebody else was quicker
                begin_deletion(session, version=None)


def delete_policies() -> None:
    """Delete the trust policies of deleted accounts."""
    for rows in left_behind(TrustPolicy.objects.all()):
        for policy in rows:
            with suppress(NotFound):
                delete_policy(policy, version=None, detach=True)
