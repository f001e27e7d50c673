"""What happened to accounts, tokens and keys: written once, never changed."""

import uuid
from datetime import datetime
from typing import Any, NoReturn

from django.db import models
from django.utils import timezone


class AppendOnly(Exception):
    """Somebody tried to change the audit log."""


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Reads over the events, and the two things that may be done to them: forgetting old ones, and who it was."""

    def update(self, **_: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly()

    def delete(self) -> NoReturn:
        """Refuse."""
        raise AppendOnly()

    def older_than(self, moment: datetime) -> "AuditEventQuerySet":
        """Return the events whose time is over."""
        return self.filter(created_at__lt=moment)

    def forget(self) -> int:
        """Delete the events: their time is over. Return how many there were."""
        return super().delete()[0]

    def forget_person(self, user_id: object) -> None:
        """Blank what could still tell who the user was; ids, times, types and outcomes stay."""
        who = str(user_id)
        super().filter(actor=who)._blank(address="", user_agent="")
        super().filter(subject=who)._blank(details={})

    def _blank(self, **fields: Any) -> int:
        return super().update(**fields)


class AuditEvent(models.Model):
    """An event. `actor` did it (a user id, `manage.py` or empty), `subject` is what it was done to: an id, no name."""

    class Outcome(models.TextChoices):
        SUCCESS = "success", "Success"
        FAILURE = "failure", "Failure"
        BLOCKED = "blocked", "Blocked"

    event_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(max_length=40)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.SUCCESS)
    actor = models.CharField(max_length=64, blank=True)
    subject = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        db_table = "accounts_auditevent"  # where the events have always been
        ordering = ["-created_at", "event_id"]
        indexes = [
            models.Index(fields=["event_id"], name="audit_key"),
            models.Index(fields=["type", "created_at"], name="audit_type"),
            models.Index(fields=["actor", "created_at"], name="audit_actor"),
            models.Index(fields=["subject", "created_at"], name="audit_subject"),
            models.Index(fields=["outcome", "created_at"], name="audit_outcome"),
            models.Index(fields=["address", "created_at"], name="audit_address"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.outcome}"

    def save(self, *_: Any, **options: Any) -> None:
        """Write the event; raise IntegrityError for one that is written already."""
        super().save(force_insert=True, using=options.get("using"))

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly()
