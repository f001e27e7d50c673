"""Trust policies: which actions a user's sessions allow and deny."""

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone

MAX_POLICIES = 50


class TrustPolicyQuerySet(models.QuerySet["TrustPolicy"]):
    def owned_by(self, user_id: uuid.UUID | str) -> "TrustPolicyQuerySet":
        return self.filter(user_id=user_id)


class TrustPolicy(models.Model):
    """A named list of rules, stored as the JSON of `RuleSerializer`.

    `slot` numbers the user's policies: with 50 slots and a unique key no user can have more, even in parallel.
    """

    policy_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="trust_policies", db_index=False
    )
    slot = models.PositiveSmallIntegerField(editable=False)
    name = models.CharField(max_length=255)
    description = models.CharField(max_length=1000, blank=True)
    rules = models.JSONField(default=list)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    version = models.PositiveIntegerField(default=1, editable=False)

    objects = TrustPolicyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name_plural = "trust policies"
        constraints = [models.UniqueConstraint(fields=["user", "slot"], name="one_policy_a_slot")]
        indexes = [
            models.Index(fields=["user", "created_at"], name="policy_of_user"),
            models.Index(fields=["user", "name"], name="policy_by_name"),
            # For the operator pages, which list the policies of all users.
            models.Index(fields=["created_at", "policy_id"], name="policy_by_creation"),
            models.Index(fields=["enabled", "created_at", "policy_id"], name="policy_enabled"),
            models.Index(fields=["name"], name="policy_name"),
            models.Index(fields=["policy_id"], name="policy_key"),  # see session_key
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.policy_id})"
