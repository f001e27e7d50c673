"""The requests that the gateway has kept."""

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from django.db import models

RANDOM_BITS = 80


def key_at(moment: datetime, *, random: bool = False) -> uuid.UUID:
    """Return a key whose first 48 bits are the moment in milliseconds since the epoch; the rest is random or zero.

    Keys order rows by time, so one index finds the rows with a value, newest first.
    """
    milliseconds = int(moment.timestamp() * 1000)
    return uuid.UUID(int=milliseconds << RANDOM_BITS | (secrets.randbits(RANDOM_BITS) if random else 0))


def moment_of(key: uuid.UUID) -> datetime:
    """Return the moment of a key."""
    return datetime.fromtimestamp((key.int >> RANDOM_BITS) / 1000, UTC)


class KeptRequest(models.Model):
    """A finished request. `kept_id` is made by `key_at` from `started_at`; times are in milliseconds.

    `reason` is a name of `policy.reasons`, empty for a request that was answered. `instance` is the one that was asked
    last. `address_key` is the client's address in a form that sorts by number. `details` holds what no list needs:
    steps, attempts, limits, and facts for staff.
    """

    kept_id = models.UUIDField(primary_key=True, editable=False)
    request_id = models.CharField(max_length=128)
    gateway = models.CharField(max_length=120)
    worker = models.CharField(max_length=20)
    plane = models.CharField(max_length=10, default="gateway")
    method = models.CharField(max_length=20)
    path = models.CharField(max_length=500)
    route = models.CharField(max_length=200)
    status = models.PositiveSmallIntegerField()
    status_class = models.PositiveSmallIntegerField()
    error_code = models.CharField(max_length=20)
    reason = models.CharField(max_length=40)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField()
    address = models.CharField(max_length=45)
    address_key = models.CharField(max_length=32)
    network = models.CharField(max_length=50)
    user_agent = models.CharField(max_length=200)
    user_id = models.CharField(max_length=36)
    role = models.CharField(max_length=20)
    credential_kind = models.CharField(max_length=10)
    credential_id = models.CharField(max_length=64)
    cluster = models.CharField(max_length=40)
    instance = models.CharField(max_length=300)
    upstream_status = models.PositiveSmallIntegerField(null=True)
    upstream_ms = models.FloatField(null=True)
    cache = models.CharField(max_length=20)
    trace_id = models.CharField(max_length=32)
    response_bytes = models.PositiveBigIntegerField()
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-kept_id"]
        verbose_name = "kept request"
        # A list has one of these values, newest first. MongoDB finds nothing by the unique index of the key.
        indexes = [
            models.Index(fields=["kept_id"], name="kept_key"),
            models.Index(fields=["request_id", "kept_id"], name="kept_request_id"),
            models.Index(fields=["method", "kept_id"], name="kept_method"),
            models.Index(fields=["path", "kept_id"], name="kept_path"),
            models.Index(fields=["route", "kept_id"], name="kept_route"),
            models.Index(fields=["status", "kept_id"], name="kept_status"),
            models.Index(fields=["status_class", "kept_id"], name="kept_status_class"),
            models.Index(fields=["error_code", "kept_id"], name="kept_error_code"),
            models.Index(fields=["reason", "kept_id"], name="kept_reason"),
            models.Index(fields=["address_key", "kept_id"], name="kept_address"),
            models.Index(fields=["network", "kept_id"], name="kept_network"),
            models.Index(fields=["user_id", "kept_id"], name="kept_user"),
            models.Index(fields=["credential_id", "kept_id"], name="kept_credential"),
            models.Index(fields=["cluster", "kept_id"], name="kept_cluster"),
            models.Index(fields=["instance", "kept_id"], name="kept_instance"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"

    @property
    def facts(self) -> dict[str, Any]:
        """What staff may know beyond the reason, such as the rule that refused the request."""
        facts: dict[str, Any] = self.details.get("facts", {})
        return facts

    @property
    def limits(self) -> dict[str, Any]:
        """The numbers of the limiter's decision, empty for a request that was not counted."""
        limits: dict[str, Any] = self.details.get("limits", {})
        return limits

    @property
    def is_sample(self) -> bool:
        """Whether the request neither failed nor was refused."""
        return not self.reason and self.status < 400
