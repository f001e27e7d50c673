"""Serializers of the session endpoints."""

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from lucid_gateway.api.fields import TimestampField
from lucid_gateway.api.pagination import ONE_ROW, ListQuery, PaginationSerializer
from sessions_api.models import Session
from sessions_api.models.sessions import GIB, MIB
from sessions_api.serializers.fields import Id, Metadata

NEW = {
    "name": "Support call 4711",
    "description": "Desktop of the front office",
    "max_size_bytes": 1_073_741_824,
    "metadata": {"ticket": "4711"},
}
SHOWN = {
    "session_id": "2f1f9a53-2d0b-4f43-9a2f-2f7e3a2b7c11",
    "user_id": "b6d2a9f0-6a4e-4b62-8a56-0e6f2a5c9d27",
    "name": "Support call 4711",
    "description": "Desktop of the front office",
    "status": "completed",
    "created_at": "2026-11-25T08:00:00Z",
    "updated_at": "2026-11-25T08:42:10Z",
    "started_at": "2026-11-25T08:00:00Z",
    "completed_at": "2026-11-25T08:42:10Z",
    "duration": 2530,
    "size_bytes": 73_400_320,
    "chunk_count": 7,
    "max_size_bytes": 1_073_741_824,
    "trust_policy_id": None,
    "manifest_id": None,
    "metadata": {"ticket": "4711"},
}


COMPLETED = OpenApiExample("A completed session", SHOWN, response_only=True)


@extend_schema_serializer(examples=[COMPLETED])
class SessionSerializer(serializers.ModelSerializer[Session]):
    """A session as the API shows it."""

    user_id = serializers.UUIDField()
    trust_policy_id = serializers.UUIDField(allow_null=True)
    duration = serializers.SerializerMethodField(
        help_text="Seconds from started_at to completed_at; null while the session is active"
    )
    metadata = serializers.DictField()

    class Meta:
        model = Session
        fields = (
            "session_id", "user_id", "name", "description", "status", "created_at", "updated_at", "started_at",
            "completed_at", "duration", "size_bytes", "chunk_count", "max_size_bytes", "trust_policy_id",
            "manifest_id", "metadata",
        )  # fmt: skip
        read_only_fields = fields

    def get_duration(self, session: Session) -> int | None:
        if session.completed_at is None:
            return None
        taken = session.completed_at - (session.started_at or session.created_at)
        return max(0, int(taken.total_seconds()))


@extend_schema_serializer(
    examples=[OpenApiExample("One session", {"sessions": [SHOWN], "pagination": ONE_ROW}, response_only=True)]
)
class SessionsPageSerializer(serializers.Serializer[None]):
    """The answer to GET /sessions."""

    sessions = SessionSerializer(many=True)
    pagination = PaginationSerializer()


class SessionFields(serializers.Serializer[None]):
    """The fields of a session that clients set. An omitted field keeps its value or gets its default."""

    name = serializers.CharField(max_length=255)
    description = serializers.CharField(max_length=1000, allow_blank=True, required=False)
    max_size_bytes = serializers.IntegerField(
        min_value=MIB, max_value=100 * GIB, required=False, help_text="Limit of its total size; 100 GiB by default"
    )
    trust_policy_id = Id(required=False, allow_null=True, help_text="One of the caller's own policies")
    metadata = Metadata(required=False, help_text="Up to 16 KiB and 100 keys on all levels together")


@extend_schema_serializer(examples=[OpenApiExample("A session", NEW, request_only=True)])
class NewSessionSerializer(SessionFields):
    """POST /sessions."""


WHOLLY_CHANGED = [OpenApiExample("Another name", NEW | {"name": "Support call 4712"}, request_only=True), COMPLETED]
PARTLY_CHANGED = [
    OpenApiExample("The recording is complete", {"status": "completed"}, request_only=True),
    OpenApiExample("Another name", {"name": "Support call 4712"}, request_only=True),
    COMPLETED,
]


class ChangedSessionSerializer(SessionFields):
    """PUT and PATCH /sessions/{session_id}."""

    status = serializers.ChoiceField(
        Session.Status.choices, required=False, help_text="From active to one of the others, never back"
    )


PENDING = {"message": "The session is deleted; its cluster still holds data.", "pending": ["session_management"]}


@extend_schema_serializer(
    examples=[OpenApiExample("The cluster is down", PENDING, response_only=True, status_codes=["202"])]
)
class PendingSerializer(serializers.Serializer[None]):
    """The answer to an unfinished DELETE. Repeating the request or running `prune_sessions` finishes it."""

    message = serializers.CharField()
    pending = serializers.ListField(child=serializers.CharField(), help_text="The clusters that still hold data")


class SessionsQuery(ListQuery):
    """The query of GET /sessions. To get stable pages while sessions are added, sort by created_at and set
    created_until.
    """

    sortable = ("created_at", "updated_at", "name", "status")
    default_sort = "-created_at"

    status = serializers.ChoiceField(Session.Status.choices, required=False)
    trust_policy_id = Id(required=False)
    name = serializers.CharField(
        max_length=255,
        required=False,
        help_text="Part of the name, ignoring case (on SQLite: of ASCII letters only)",
    )
    created_since = TimestampField(required=False)
    created_until = TimestampField(required=False)
    user_id = Id(required=False, help_text="The owner of the sessions; only staff may name another user")
