"""Recorded sessions and the chunks that were uploaded for them."""

import uuid
from datetime import UTC, datetime

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone

from sessions_api.models.policies import TrustPolicy

MIB, GIB = 1024**2, 1024**3
MAX_ACTIVE = 100
NOT_DELETED = datetime(9999, 12, 31, tzinfo=UTC)  # rather than null, for which MongoDB scans an index twice


class SessionQuerySet(models.QuerySet["Session"]):
    """A session counts as deleted as soon as its deletion has begun."""

    def owned_by(self, user_id: uuid.UUID | str) -> "SessionQuerySet":
        """Return the user's sessions that are not deleted."""
        return self.undeleted().filter(user_id=user_id)

    def undeleted(self) -> "SessionQuerySet":
        return self.filter(deleted_at=NOT_DELETED)

    def half_deleted(self) -> "SessionQuerySet":
        """Return the deleted sessions whose data the session-management cluster still holds."""
        return self.filter(deleted_at__lt=NOT_DELETED)


class Session(models.Model):
    """A recorded session. `active_slot` numbers the user's active sessions: with 100 slots and a unique key no user can
    have more, even in parallel.

    Uploads reserve `reserved_bytes` of `max_size_bytes`. `size_bytes` and `chunk_count` are valid once `settled`; until
    then the recorded chunks are counted. Each change increments `version`.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    session_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # No index on the user alone: MongoDB would prefer it to the indexes that also hold the order.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="recorded_sessions", db_index=False
    )
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=1000, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    active_slot = models.PositiveSmallIntegerField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(default=NOT_DELETED, editable=False)
    size_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    chunk_count = models.PositiveIntegerField(default=0, editable=False)
    settled = models.BooleanField(default=False, editable=False)
    reserved_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    max_size_bytes = models.PositiveBigIntegerField(
        default=100 * GIB, validators=[MinValueValidator(MIB), MaxValueValidator(100 * GIB)]
    )
    trust_policy = models.ForeignKey(
        TrustPolicy, null=True, blank=True, on_delete=models.PROTECT, related_name="sessions"
    )
    manifest_id = models.UUIDField(null=True, editable=False)
    merkle_root = models.CharField(max_length=64, blank=True, editable=False)
    rdp_server_id = models.CharField(max_length=100, blank=True)
    encryption_key = models.TextField(blank=True, editable=False)
    metadata = models.JSONField(default=dict, blank=True)
    version = models.PositiveIntegerField(default=1, editable=False)

    objects = SessionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "active_slot"], condition=models.Q(active_slot__gte=0), name="one_session_a_slot"
            )
        ]
        indexes = [
            # For lists of one user's sessions: they are counted and sorted without reading the rows.
            models.Index(fields=["user", "deleted_at", "created_at", "session_id", "name"], name="session_of_user"),
            models.Index(fields=["user", "deleted_at", "status", "created_at", "session_id"], name="session_by_status"),
            models.Index(fields=["user", "deleted_at", "updated_at", "session_id"], name="session_by_update"),
            models.Index(fields=["user", "deleted_at", "name", "session_id"], name="session_by_name"),
            # For the operator pages, which list the sessions of all users; Django adds the key to get a total order.
            models.Index(fields=["created_at", "session_id"], name="session_by_creation"),
            models.Index(fields=["status", "created_at", "session_id"], name="session_status"),
            models.Index(fields=["name"], name="session_name"),
            models.Index(
                fields=["deleted_at"], condition=models.Q(deleted_at__lt=NOT_DELETED), name="session_half_deleted"
            ),
            # On MongoDB the unique index of the key is partial, and queries cannot use it.
            models.Index(fields=["session_id"], name="session_key"),
        ]

    @property
    def is_deleted(self) -> bool:
        """Whether the deletion has begun."""
        return self.deleted_at != NOT_DELETED

    def __str__(self) -> str:
        return f"{self.name} ({self.session_id})"


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def recorded(self) -> "ChunkQuerySet":
        """Return the chunks that the cluster has accepted."""
        return self.filter(state=Chunk.State.RECORDED)

    def uploading(self) -> "ChunkQuerySet":
        """Return the chunks of uploads that are in progress, or were when their worker died."""
        return self.filter(state=Chunk.State.UPLOADING)

    def abandoned(self) -> "ChunkQuerySet":
        """Return the chunks whose upload lost its lease. Once the row is deleted, the upload cannot record it."""
        return self.uploading().exclude(lease_until__gt=timezone.now())


class Chunk(models.Model):
    """A part of a session's recording. During an upload its row reserves the index: `upload` is the upload's token, and
    no other upload may take the index before `lease_until`.
    """

    class State(models.TextChoices):
        UPLOADING = "uploading", "Uploading"
        RECORDED = "recorded", "Recorded"

    chunk_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    index = models.PositiveIntegerField()
    size = models.PositiveIntegerField()
    hash = models.CharField(max_length=64, blank=True)
    storage_path = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.UPLOADING)
    upload = models.CharField(max_length=32, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ["session_id", "index"]  # `session` would join the sessions to use their ordering
        constraints = [models.UniqueConstraint(fields=["session", "index"], name="one_chunk_an_index")]
        indexes = [
            models.Index(fields=["session", "state", "index", "chunk_id"], name="chunk_of_session"),
            models.Index(fields=["session", "state", "size"], name="chunk_sizes"),
            models.Index(fields=["chunk_id"], name="chunk_key"),  # see session_key
        ]

    def __str__(self) -> str:
        return f"chunk {self.index} of {self.session_id}"
