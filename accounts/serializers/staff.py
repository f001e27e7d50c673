"""The fields of requests and answers of the admin endpoints."""

from datetime import datetime

from django.utils import timezone
from rest_framework import serializers

from accounts.models.users import role_choices
from accounts.serializers.users import ManagedUserSerializer
from accounts.users.locks import FOREVER
from lucid_gateway.api.fields import TimestampField
from lucid_gateway.api.pagination import ListQuery, PaginationSerializer
from lucid_gateway.audit.models import AuditEvent


class UsersQuery(ListQuery):
    """The query of GET /admin/users."""

    sortable = ("created_at", "last_login", "email", "username")
    default_sort = "-created_at"

    q = serializers.CharField(max_length=100, required=False, help_text="A part of the email, the username or a name")
    role = serializers.ChoiceField(role_choices(), required=False)
    locked = serializers.BooleanField(required=False, allow_null=True, default=None)
    is_active = serializers.BooleanField(required=False, allow_null=True, default=None)


class UsersPageSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/users."""

    users = ManagedUserSerializer(many=True)
    pagination = PaginationSerializer()


class LockSerializer(serializers.Serializer[None]):
    """POST /admin/users/{id}/lock."""

    reason = serializers.CharField(max_length=200)
    until = TimestampField(default=FOREVER, help_text="By default, the lock lasts until an operator unlocks the user")

    def validate_until(self, until: datetime) -> datetime:
        """Refuse a time in the past."""
        if until <= timezone.now():
            raise serializers.ValidationError("This time is in the past.", code="invalid_date")
        return until


class RoleSerializer(serializers.Serializer[None]):
    """POST /admin/users/{id}/role."""

    role = serializers.ChoiceField(role_choices())


class RevokedSerializer(serializers.Serializer[None]):
    """The answer to POST /admin/users/{id}/revoke-tokens."""

    revoked = serializers.IntegerField(help_text="The number of live tokens that were revoked")


class AuditQuery(ListQuery):
    """The query of GET /admin/audit."""

    sortable = ("created_at",)
    default_sort = "-created_at"

    type = serializers.CharField(max_length=40, required=False, help_text="A type, or a prefix such as `login.`")
    outcome = serializers.ChoiceField(AuditEvent.Outcome.choices, required=False)
    actor = serializers.CharField(max_length=64, required=False)
    subject = serializers.CharField(max_length=64, required=False)
    address = serializers.CharField(max_length=45, required=False)
    request_id = serializers.CharField(max_length=128, required=False)
    since = TimestampField(required=False)
    until = TimestampField(required=False)
    format = serializers.ChoiceField(
        ["json", "csv", "jsonl"], default="json", help_text="csv and jsonl export all matching events, without pages"
    )


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    """An event of the audit log."""

    details = serializers.DictField()

    class Meta:
        model = AuditEvent
        fields = (
            "event_id", "created_at", "type", "outcome", "actor", "subject", "address", "user_agent", "request_id",
            "details",
        )  # fmt: skip
        read_only_fields = fields


class AuditPageSerializer(serializers.Serializer[None]):
    """The answer to GET /admin/audit."""

    events = AuditEventSerializer(many=True)
    pagination = PaginationSerializer()
