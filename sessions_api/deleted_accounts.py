"""The sessions and trust policies of deleted accounts, which are deleted, too.

`accounts` must not import sessions_api, so `prune_sessions` finds these rows afterwards.
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


def rows_of_deleted_accounts(rows: QuerySet[Row]) -> Iterator[QuerySet[Row]]:
    """Yield the rows whose user's account is deleted, in batches of users."""
    users: list[Any] = list(User.objects.exclude(deleted_at=None).order_by().values_list("pk", flat=True))
    for start in range(0, len(users), BATCH):
        yield rows.filter(user_id__in=users[start : start + BATCH]).order_by()


def count_sessions() -> int:
    """Return how many sessions of deleted accounts are not marked as deleted yet."""
    return sum(rows.count() for rows in rows_of_deleted_accounts(Session.objects.undeleted()))


def begin_deletions() -> None:
    """Mark the sessions of deleted accounts as deleted; `finish_deletion` completes each."""
    for rows in rows_of_deleted_accounts(Session.objects.undeleted().only("user_id", "status", "deleted_at")):
        for session in rows:
            with suppress(NotFound):  # another process has deleted it
                begin_deletion(session, version=None)


def delete_policies() -> None:
    for rows in rows_of_deleted_accounts(TrustPolicy.objects.all()):
        for policy in rows:
            with suppress(NotFound):
                delete_policy(policy, version=None, detach=True)
