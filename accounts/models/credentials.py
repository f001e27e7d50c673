"""Recovery codes and API keys."""

import uuid

from django.db import models
from django.utils import timezone

from accounts.models.users import User


class RecoveryCode(models.Model):
    """A single-use code that replaces a lost second factor; only its hash is stored."""

    code_hash = models.CharField(primary_key=True, max_length=64, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    created_at = models.DateTimeField(default=timezone.now)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["created_at"]
        indexes = [models.Index(fields=["code_hash"], name="recovery_code_key")]

    def __str__(self) -> str:
        return f"recovery code of {self.user_id}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def owned_by(self, user_id: uuid.UUID | str) -> "ApiKeyQuerySet":
        return self.filter(user_id=user_id)

    def live(self) -> "ApiKeyQuerySet":
        """Return the keys that are neither revoked nor expired."""
        unexpired = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(unexpired, revoked_at=None)

    def suspended(self) -> "ApiKeyQuerySet":
        """Return the live keys that an operator must confirm first."""
        return self.live().filter(suspended_at__isnull=False)

    def ended(self) -> "ApiKeyQuerySet":
        """Return the keys that are revoked or expired."""
        return self.filter(models.Q(revoked_at__isnull=False) | models.Q(expires_at__lte=timezone.now()))


class ApiKey(models.Model):
    """A key for scripts. Its secret is stored as a hash; `permissions` are a subset of those of the user's role.

    `place` is one of the user's 50 places: a unique constraint on it limits the number of keys. Creating a key frees
    the places of ended keys. Live keys without a place were created before this column existed.
    """

    key_id = models.CharField(primary_key=True, max_length=16, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100)
    secret_hash = models.CharField(max_length=64, editable=False)
    permissions = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, db_index=True)
    place = models.PositiveSmallIntegerField(null=True, editable=False)
    suspended_at = models.DateTimeField(null=True, blank=True, db_index=True)  # until an operator confirms the key

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["key_id"], name="api_key_key"),
            models.Index(fields=["name"], name="api_key_name"),
            models.Index(fields=["created_at", "key_id"], name="api_key_by_creation"),  # see user_by_creation
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "place"], condition=models.Q(place__gte=0), name="one_api_key_a_place"
            )
        ]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.key_id})"
