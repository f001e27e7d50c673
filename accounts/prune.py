"""Forgetting what has had its time: expired tokens, ended API keys, old audit events. Signing keys stay: they are few,
and a key that was revoked must never be made anew.
"""

import time
from collections.abc import Callable, Iterator
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

BATCH = 1000
# Longer than others that wait for SQLite's lock sleep before they ask again (lucid_gateway/sqlite/base.py).
PAUSE_SECONDS = 0.03
# What has ended stays visible to operators for a while.
KEPT = timedelta(days=7)


@dataclass(frozen=True)
class Chore:
    """What is forgotten: its name, the rows, the column by whose index they are found, and how a batch of them, given
    by key, goes.
    """

    name: str
    rows: QuerySet[Any]
    column: str
    forget: Callable[[list[Any]], int]

    def run(self) -> Iterator[int]:
        """Forget the rows in batches, the oldest first; yield how many went with each. Between two batches others
        can write.
        """
        since = None
        while batch := list(self.oldest(since)):
            since = batch[-1][1]
            yield self.forget([key for key, _ in batch])
            if len(batch) == BATCH:
                time.sleep(PAUSE_SECONDS)

    def oldest(self, since: datetime | None) -> QuerySet[Any, tuple[Any, datetime]]:
        """Return key and time of the oldest rows, or of those that follow the last batch: on MongoDB the index still
        holds what was deleted just now.
        """
        rows = self.rows if since is None else self.rows.filter(**{f"{self.column}__gte": since})
        return rows.order_by(self.column).values_list("pk", self.column)[:BATCH]


def chores(now: datetime | None = None) -> list[Chore]:
    """Return all that there is to forget. Login challenges forget themselves: Redis ends them."""
    now = now or timezone.now()
    over = now - KEPT
    retained = now - timedelta(days=settings.ENV.AUDIT_RETENTION_DAYS)
    events = AuditEvent.objects.older_than(retained)
    return [
        Chore("tokens", IssuedToken.objects.filter(expires_at__lt=over), "expires_at", by_key(IssuedToken)),
        Chore("api_keys", ApiKey.objects.filter(expires_at__lt=over), "expires_at", by_key(ApiKey)),
        Chore("api_keys_revoked", ApiKey.objects.filter(revoked_at__lt=over), "revoked_at", by_key(ApiKey)),
        Chore(
            "idempotent_requests",
            IdempotentRequest.objects.filter(expires_at__lt=now),
            "expires_at",
            by_key(IdempotentRequest),
        ),
        Chore("sessions", Session.objects.filter(expire_date__lt=now), "expire_date", by_key(Session)),
        Chore("operator_log", LogEntry.objects.filter(action_time__lt=retained), "action_time", by_key(LogEntry)),
        Chore("audit_events", events, "created_at", lambda keys: AuditEvent.objects.filter(pk__in=keys).forget()),
    ]


def by_key(model: type[Any]) -> Callable[[list[Any]], int]:
    """Return what deletes rows of the model by key."""

    def forget(keys: list[Any]) -> int:
        deleted: int = model.objects.filter(pk__in=keys).delete()[0]
        return deleted

    return forget
