"""Requests with an Idempotency-Key that the gateway executes itself."""

import uuid

from django.db import models

from accounts.models.users import User


class IdempotentRequest(models.Model):
    """A record of a request, stored for 24 hours: the current attempt and its lease, and the encrypted first answer.

    `resource_id` is chosen before the resource is created, so that an attempt after a crash finds the resource by it.
    """

    record_id = models.CharField(primary_key=True, max_length=64, editable=False)  # a hash of the caller and the key
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="idempotent_requests")
    fingerprint = models.CharField(max_length=64, editable=False)
    resource_id = models.UUIDField(default=uuid.uuid4, editable=False)
    attempt = models.UUIDField(editable=False)
    lease_ends_at = models.DateTimeField(editable=False)
    answer = models.TextField(blank=True, editable=False)
    expires_at = models.DateTimeField(editable=False, db_index=True)

    class Meta:
        indexes = [models.Index(fields=["record_id"], name="idempotent_request_key")]

    def __str__(self) -> str:
        return f"request of {self.user_id}"
