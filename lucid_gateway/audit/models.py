"""The events of the audit log, which are written once and never changed."""

import uuid
from datetime import datetime
from typing import Any, NoReturn

from django.db import models
from django.utils import timezone

from lucid_gateway.kernel.addresses import KEY_LENGTH, key_of

# Kinds whose changes may quote what their actor wrote: the name and rules of a policy.
OWN_TEXTS = ("trust_policy.changed",)


class AppendOnly(Exception):
    """Code tried to change the audit log."""


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Raises AppendOnly for changes, except to delete old events (`forget`) and to anonymize a user."""

    def update(self, **_: Any) -> NoReturn:
        raise AppendOnly()

    def delete(self) -> NoReturn:
        raise AppendOnly()

    def older_than(self, limit: datetime) -> "AuditEventQuerySet":
        return self.filter(created_at__lt=limit)

    def forget(self) -> int:
        """Delete the events of this query, whose retention time is over, and return their number."""
        return super().delete()[0]

    def forget_person(self, user_id: object) -> None:
        """Blank the fields that could identify the user; ids, times, types and outcomes stay."""
        user = str(user_id)
        super().filter(actor=user)._blank(address="", address_key="", user_agent="")
        super().filter(subject=user)._blank(details={})
        super().filter(actor=user, type__in=OWN_TEXTS)._blank(details={})

    def _blank(self, **fields: Any) -> int:
        return super().update(**fields)


class AddressKeyField(models.CharField):  # type: ignore[type-arg]  # not subscriptable at run time
    """The key of the event's address, by which a network is found as one range of an index."""

    def pre_save(self, model_instance: Any, add: bool) -> str:
        key = key_of(model_instance.address)
        setattr(model_instance, self.attname, key)
        return key


class AuditEvent(models.Model):
    """`actor` is a user id, `manage.py` or empty; `subject` is the id of the affected user or object, never a name."""

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
    address_key = AddressKeyField(max_length=KEY_LENGTH, blank=True, editable=False)
    user_agent = models.CharField(max_length=200, blank=True)
    request_id = models.CharField(max_length=128, blank=True, db_index=True)
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField("time", default=timezone.now)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        db_table = "accounts_auditevent"  # the name of earlier releases
        ordering = ["-created_at", "-event_id"]
        indexes = [
            models.Index(fields=["event_id"], name="audit_key"),
            # Each holds the whole order of the lists: MongoDB would sort all events with the value itself.
            models.Index(fields=["created_at", "event_id"], name="audit_by_time"),
            models.Index(fields=["type", "created_at", "event_id"], name="audit_by_type"),
            models.Index(fields=["type", "outcome", "created_at", "event_id"], name="audit_by_type_outcome"),
            models.Index(fields=["actor", "created_at", "event_id"], name="audit_by_actor"),
            models.Index(fields=["subject", "created_at", "event_id"], name="audit_by_subject"),
            models.Index(fields=["outcome", "created_at", "event_id"], name="audit_by_outcome"),
            models.Index(fields=["type", "address_key", "created_at", "event_id"], name="audit_by_type_network"),
            # With the columns of the filters, which leave out most of the many events that a network can have.
            models.Index(fields=["address_key", "created_at", "event_id", "type", "outcome"], name="audit_by_network"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.outcome}"

    def save(self, *_: Any, **options: Any) -> None:
        """Insert the event; raise IntegrityError if it was saved before."""
        super().save(force_insert=True, using=options.get("using"))

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnly()
