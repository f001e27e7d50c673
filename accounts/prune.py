"""Deletion of old data: expired tokens, ended API keys, old audit events, old figures and the like.

Signing keys stay: they are few, and a revoked key must never be created again.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import ApiKey, IdempotentRequest, IssuedToken
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.figures.models import Sample

BATCH = 1000
# Longer than the retry interval of other writers that wait for SQLite's lock (lucid_gateway/sqlite/base.py).
PAUSE_SECONDS = 0.03
# Ended tokens and API keys stay visible to operators for a while.
GRACE_PERIOD = timedelta(days=7)


@dataclass(frozen=True)
class PruneTask:
    """Rows to delete, the indexed column that orders them by time, and a function that deletes rows by primary key."""

    name: str
    rows: QuerySet[Any]
    column: str
    delete: Callable[[list[Any]], int]

    def run(self) -> Iterator[int]:
        """Delete the rows in batches, oldest first; yield the number of each batch. Pauses let others write."""
        since = None
        while batch := list(self.oldest(since)):
            since = batch[-1][1]
            yield self.delete([key for key, _ in batch])
            if len(batch) == BATCH:
                time.sleep(PAUSE_SECONDS)

    def oldest(self, since: Any) -> QuerySet[Any, tuple[Any, Any]]:
        """Return (key, time) of the oldest rows, not before `since`, the end of the last batch.

        Without `since`, MongoDB would scan the index entries of the rows that were just deleted.
        """
        rows = self.rows if since is None else self.rows.filter(**{f"{self.column}__gte": since})
        return rows.order_by(self.column).values_list("pk", self.column)[:BATCH]


# Tasks of apps above this one, which add them when they start.
more_tasks: list[Callable[[datetime], Iterable["PruneTask"]]] = []


def prune_tasks(now: datetime | None = None) -> list[PruneTask]:
    """Return all tasks. Login challenges need none, because Redis expires them."""
    now = now or timezone.now()
    ended = now - GRACE_PERIOD
    retained = now - timedelta(days=settings.ENV.AUDIT_RETENTION_DAYS)
    events = AuditEvent.objects.older_than(retained)
    return [
        PruneTask("tokens", IssuedToken.objects.filter(expires_at__lt=ended), "expires_at", by_key(IssuedToken)),
        PruneTask("api_keys", ApiKey.objects.filter(expires_at__lt=ended), "expires_at", by_key(ApiKey)),
        PruneTask("api_keys_revoked", ApiKey.objects.filter(revoked_at__lt=ended), "revoked_at", by_key(ApiKey)),
        PruneTask(
            "idempotent_requests",
            IdempotentRequest.objects.filter(expires_at__lt=now),
            "expires_at",
            by_key(IdempotentRequest),
        ),
        PruneTask("sessions", Session.objects.filter(expire_date__lt=now), "expire_date", by_key(Session)),
        PruneTask("operator_log", LogEntry.objects.filter(action_time__lt=retained), "action_time", by_key(LogEntry)),
        PruneTask("figures", Sample.objects.over(now.timestamp()), "start", by_key(Sample)),
        PruneTask("audit_events", events, "created_at", lambda keys: AuditEvent.objects.filter(pk__in=keys).forget()),
        *(task for tasks in more_tasks for task in tasks(now)),
    ]


def by_key(model: type[Any]) -> Callable[[list[Any]], int]:
    """Return a function that deletes rows of the model by primary key and returns their number."""

    def delete(keys: list[Any]) -> int:
        deleted: int = model.objects.filter(pk__in=keys).delete()[0]
        return deleted

    return delete
