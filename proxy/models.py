"""The maintenance of clusters and instances, whose rows stay as history, and the routes that are off the edge."""

import uuid
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils import timezone

from proxy.clusters import configured, find_instance


class MaintenanceQuerySet(models.QuerySet["Maintenance"]):
    """Filters by state at the time `now`, by default the current time."""

    def not_over(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return rows that are in force or scheduled."""
        return self.filter(Q(ends_at=None) | Q(ends_at__gt=now or timezone.now()), ended_at=None)

    def in_force(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        return self.not_over(now).filter(starts_at__lte=now or timezone.now())

    def coming(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return scheduled rows."""
        return self.not_over(now).filter(starts_at__gt=now or timezone.now())

    def over(self, now: datetime | None = None) -> "MaintenanceQuerySet":
        """Return rows that an operator ended or that have reached their end."""
        return self.filter(Q(ended_at__isnull=False) | Q(ends_at__lte=now or timezone.now()))


class Maintenance(models.Model):
    """A period in which a cluster, or one of its instances, gets no new requests; it may have no set end."""

    class Kind(models.TextChoices):
        MAINTENANCE = "maintenance", "Maintenance"
        DRAIN = "drain", "Drain"

    maintenance_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    cluster = models.CharField(max_length=40, db_index=True)
    instance = models.CharField(max_length=300, blank=True, help_text="Its address; empty for the whole cluster")
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
        """The cluster, with the instance's address if the row is about one."""
        return f"{self.cluster} {self.instance}" if self.instance else self.cluster

    @property
    def state(self) -> str:
        """`coming`, `in_force` or `over` at the current time."""
        now = timezone.now()
        if self.ended_at is not None or (self.ends_at is not None and self.ends_at <= now):
            return "over"
        return "coming" if self.starts_at > now else "in_force"

    def clean(self) -> None:
        """Normalise the instance, and move a start in the past to now; raise ValidationError for impossible values."""
        problems: dict[str, Any] = {}
        if self.instance and (cluster := configured().get(self.cluster)):
            found = find_instance(cluster, self.instance)
            self.instance = found.url if found else self.instance
            if found is None:
                problems["instance"] = ValidationError("The cluster has no such instance.", code="invalid_choice")
        now = timezone.now()
        self.starts_at = max(self.starts_at or now, now)
        if self.ends_at is not None and self.ends_at <= now:
            problems["ends_at"] = ValidationError("This time is in the past.", code="invalid_date")
        elif self.ends_at is not None and self.ends_at <= self.starts_at:
            problems["ends_at"] = ValidationError("The end must be after the start.", code="invalid_date")
        if problems:
            raise ValidationError(problems)


class EdgeExclusion(models.Model):
    """A route that the edge leaves to the gateway: its path in the policy, or an empty one for all routes."""

    path = models.CharField(max_length=200, primary_key=True, blank=True)
    reason = models.CharField(max_length=200)
    created_by = models.CharField(max_length=254)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["path"], name="edge_exclusion_key")]

    def __str__(self) -> str:
        return self.path or "all routes"
