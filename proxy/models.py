"""What operators took out of service, when and why; what is over stays as history."""

import uuid
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from proxy.clusters import configured, same_instance


class MaintenanceQuerySet(models.QuerySet["Maintenance"]):
    """Reads by time: what is in force, what is to come, what is over."""

    def not_over(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return what is in force or to come."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=now or timezone.now()), ended_at=None)

    def in_force(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return what is in force."""
        return self.not_over(now).filter(starts_at__lte=now or timezone.now())

    def coming(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return what is to come."""
        return self.not_over(now).filter(starts_at__gt=now or timezone.now())

    def over(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return what an operator or the clock has ended."""
        return self.filter(Q(ended_at__isnull=False) | Q(ends_at__lte=now or timezone.now()))


class Maintenance(models.Model):
    """A time in which a cluster, or one of its instances, gets no new requests; without `ends_at` until it is ended."""

    class Kind(models.TextChoices):
        MAINTENANCE = "maintenance", "Maintenance"
        DRAIN = "drain", "Drain"

    maintenance_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.CharField(max_length=40, db_index=True)
    instance = models.CharField(max_length=300, blank=True, help_text="Its address; empty: the whole cluster")
    kind = models.CharField(max_length=20, choices=Kind.choices, db_index=True)
    reason = models.CharField(max_length=200)
    starts_at = models.DateTimeField(default=timezone.now, db_index=True)
    ends_at = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=254, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)
    ended_by = models.CharField(max_length=254, blank=True, editable=False)

    objects = MaintenanceQuerySet.as_manager()

    class Meta:
        ordering = ["-starts_at", "maintenance_id"]
        verbose_name = "maintenance"
        verbose_name_plural = "clusters and maintenance"
        indexes = [
            models.Index(fields=["maintenance_id"], name="maintenance_key"),
            models.Index(fields=["ended_at", "ends_at"], name="maintenance_not_over"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.target}"

    @property
    def target(self) -> str:
        """What is out of service, in words."""
        return f"{self.cluster} {self.instance}" if self.instance else self.cluster

    @property
    def state(self) -> str:
        """`coming`, `in_force` or `over` at this moment."""
        now = timezone.now()
        if self.ended_at is not None or (self.ends_at is not None and self.ends_at <= now):
            return "over"
        return "coming" if self.starts_at > now else "in_force"

    def clean(self) -> None:
        """Bring the instance into its one spelling, and a start that is past to now; refuse what cannot be."""
        problems: dict[str, Any] = {}
        if self.instance and (cluster := configured().get(self.cluster)):
            found = same_instance(cluster, self.instance)
            self.instance = found.url if found else self.instance
            if found is None:
                problems["instance"] = ValidationError("The cluster has no such instance.", code="invalid_choice")
        now = timezone.now()
        self.starts_at = max(self.starts_at or now, now)
        if self.ends_at is not None and self.ends_at <= now:
            problems["ends_at"] = ValidationError("This time is past.", code="invalid_date")
        elif self.ends_at is not None and self.ends_at <= self.starts_at:
            problems["ends_at"] = ValidationError("The end is not after the start.", code="invalid_date")
        if problems:
            raise ValidationError(problems)
