"""Manifests: the proof of which chunks make up a session."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

from sessions_api.models.sessions import Session


class ManifestQuerySet(models.QuerySet["Manifest"]):
    def owned_by(self, user_id: uuid.UUID | str) -> "ManifestQuerySet":
        return self.filter(user_id=user_id)


class Manifest(models.Model):
    """The Merkle root over a completed session's chunks (RFC 6962, section 2.1) and its anchoring; one per session."""

    class Validation(models.TextChoices):
        VALID = "valid", "Valid"
        INVALID = "invalid", "Invalid"

    class Anchor(models.TextChoices):
        NONE = "none", "Not anchored"
        PENDING = "pending", "Pending"
        CONFIRMED = "confirmed", "Confirmed"
        FAILED = "failed", "Failed"

    manifest_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.OneToOneField(Session, on_delete=models.CASCADE, related_name="manifest")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="manifests", db_index=False
    )
    merkle_root = models.CharField(max_length=64)
    chunk_count = models.PositiveIntegerField()
    total_size = models.PositiveBigIntegerField()
    validation_status = models.CharField(max_length=10, choices=Validation.choices, default=Validation.VALID)
    validated_at = models.DateTimeField(default=timezone.now)
    metadata = models.JSONField(default=dict, blank=True)
    anchor_status = models.CharField(max_length=10, choices=Anchor.choices, default=Anchor.NONE)
    anchor_transaction_id = models.CharField(max_length=128, blank=True)
    anchor_block_height = models.PositiveBigIntegerField(null=True)
    anchor_error = models.CharField(max_length=500, blank=True)
    anchor_requested_at = models.DateTimeField(null=True)
    anchored_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)

    objects = ManifestQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["user", "created_at", "manifest_id"], name="manifest_of_user"),
            # For the operator pages, which list the manifests of all users.
            models.Index(fields=["created_at", "manifest_id"], name="manifest_by_creation"),
            models.Index(fields=["anchor_status", "created_at", "manifest_id"], name="manifest_by_anchor"),
            models.Index(fields=["validation_status", "created_at", "manifest_id"], name="manifest_by_validation"),
            models.Index(fields=["manifest_id"], name="manifest_key"),  # see session_key
            models.Index(fields=["session"], name="manifest_of_session"),
        ]

    @property
    def blockchain_anchored(self) -> bool:
        return self.anchor_status == self.Anchor.CONFIRMED

    def __str__(self) -> str:
        return f"manifest {self.manifest_id} of {self.session_id}"
