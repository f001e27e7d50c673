"""Forgetting what has had its time: expired tokens, ended API keys, old audit events. Signing keys stay: they are few,
and a key that was revoked must never be made anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import ApiKey, AuditEvent, IssuedToken

BATCH = 1000
# What has ended stays visible to operators for a while.
KEPT = timedelta(days=7)


@dataclass(frozen=True)
class Chore:
    """What is forgotten: its name, the rows, and how a batch of them, given by key, goes."""

    name: str
    rows: QuerySet[Any]
    forget: Callable[[list[Any]], int]

    def run(self) -> Iterator[int]:
        """Forget the rows in batches; yield how many went with each."""
        while keys := list(self.rows.order_by("pk").values_list("pk", flat=True)[:BATCH]):
            yield self.forget(keys)


def chores(now: datetime | None = None) -> list[Chore]:
    """Return all that there is to forget. Login challenges forget themselves: Redis ends them."""
    now = now or timezone.now()
    over = now - KEPT
    retained = now - timedelta(days=settings.ENV.AUDIT_RETENTION_DAYS)
    events = AuditEvent.objects.older_than(retained)
    return [
        Chore("tokens", IssuedToken.objects.filter(expires_at__lt=over), by_key(IssuedToken)),
        Chore("api_keys", ApiKey.objects.filter(expires_at__lt=over), by_key(ApiKey)),
        Chore("api_keys_revoked", ApiKey.objects.filter(revoked_at__lt=over), by_key(ApiKey)),
        Chore("sessions", Session.objects.filter(expire_date__lt=now), by_key(Session)),
        Chore("operator_log", LogEntry.objects.filter(action_time__lt=retained), by_key(LogEntry)),
        Chore("audit_events", events, lambda keys: AuditEvent.objects.filter(pk__in=keys).forget()),
    ]


def by_key(model: type[Any]) -> Callable[[list[Any]], int]:
    """Return what deletes rows of the model by key."""

    def forget(keys: list[Any]) -> int:
        deleted: int = model.objects.filter(pk__in=keys).delete()[0]
        return deleted

    return forget
