"""The shapes of the admin endpoints' requests and answers."""

from datetime import datetime

from django.utils import timezone
from rest_framework import serializers

from accounts.models.users import role_choices
from accounts.serializers.users import ManagedUserSerializer
from accounts.users.locks import FOREVER
from lucid_gateway.api.fields import Moment
from lucid_gateway.api.pagination import ListQuery, PaginationSerializer
from lucid_gateway.audit.models import AuditEvent


class UsersQuery(ListQuery):
    """The query of GET /admin/users."""

    sortable = ("created_at", "last_login", "email", "username")
    default_sort = "-created_at"

    q = serializers.CharField(max_length=100, required=False, help_text="Part of email, username or name")
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
    until = Moment(default=FOREVER, help_text="Without it, until somebody unlocks")

    def validate_until(self, moment: datetime) -> datetime:
        """Refuse a time that is past."""
        if moment <= timezone.now():
            raise serializers.ValidationError("This time is past.", code="invalid_date")
        return moment


class RoleSerializer(serializers.Serializer[None]):
    """POST /admin/users/{id}/role."""

    role = serializers.ChoiceField(role_choices())


class RevokedSerializer(serializers.Serializer[None]):
    """The answer to POST /admin/users/{id}/revoke-tokens."""

    revoked = serializers.IntegerField(help_text="Live tokens that were ended")


class AuditQuery(ListQuery):
    """The query of GET /admin/audit."""

    sortable = ("created_at",)
    default_sort = "-created_at"

    type = serializers.CharField(max_length=40, required=False, help_text="Such as login.failed; or `login.` for all")
    outcome = serializers.ChoiceField(AuditEvent.Outcome.choices, required=False)
    actor = serializers.CharField(max_length=64, required=False)
    subject = serializers.CharField(max_length=64, required=False)
    address = serializers.CharField(max_length=45, required=False)
    request_id = serializers.CharField(max_length=128, required=False)
    since = Moment(required=False)
    until = Moment(required=False)
    format = serializers.ChoiceField(
        ["json", "csv", "jsonl"], default="json", help_text="csv and jsonl export all that match, without pages"
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
