"""The operator pages for sessions."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator

from accounts.admin.owned import OwnedList
from sessions_api.admin.owned import OwnedAdmin
from sessions_api.models import Session
from sessions_api.models.sessions import SessionQuerySet
from sessions_api.totals import settle_all

LAST_CHARACTER = "\U0010ffff"


class SessionList(OwnedList):
    """A page of sessions whose totals are read together."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        settle_all(self.result_list)


class DeletionFilter(admin.SimpleListFilter):
    """Shows the deleted sessions whose data the session-management cluster still holds."""

    title, parameter_name = "deletion", "deletion"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("pending", "Pending")]

    def queryset(self, request: HttpRequest, queryset: SessionQuerySet) -> SessionQuerySet:  # type: ignore[override]
        return queryset.half_deleted() if self.value() == "pending" else queryset


@admin.register(Session)
class SessionAdmin(OwnedAdmin):
    list_display = ("short_name", "owner", "status", "created_at", "completed_at", "chunks", "size")
    list_filter = ("status", "created_at", DeletionFilter)
    sortable_by = ("created_at",)
    search_fields = ("name",)
    search_help_text = "Beginning of the name, full email or username of the user, or full id of the session or user"
    fields = (
        "session_id", "name", "description", "owner", "status", "created_at", "updated_at", "started_at",
        "completed_at", "deletion", "chunks", "size", "settled", "reserved_bytes", "max_size_bytes",
        "policy_page", "manifest_page", "merkle_root", "rdp_server_id", "metadata", "audit_events", "version",
    )  # fmt: skip

    @admin.display(description="Name")
    def short_name(self, session: Session) -> str:
        return Truncator(session.name).chars(40)

    @admin.display(description="Manifest")
    def manifest_page(self, session: Session) -> str:
        return self.link_to("manifest", session.manifest_id)

    @admin.display(description="Trust policy")
    def policy_page(self, session: Session) -> str:
        return self.link_to("trustpolicy", session.trust_policy_id)

    @admin.display(description="Deleted at")
    def deletion(self, session: Session) -> datetime | str:
        """Return when the deletion began."""
        return session.deleted_at if session.is_deleted else self.get_empty_value_display()

    @admin.display(description="Chunks")
    def chunks(self, session: Session) -> int:
        return session.chunk_count

    @admin.display(description="Size")
    def size(self, session: Session) -> str:
        return filesizeformat(session.size_bytes)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Session | None:
        session: Session | None = super().get_object(request, object_id, from_field)
        if session is not None:
            settle_all([session])
        return session

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Session], search_term: str
    ) -> tuple[QuerySet[Session], bool]:
        """Search by indexed fields: full ids, users and beginnings of names. Parts of names would need a full scan."""
        term = search_term.strip()
        if not term:
            return queryset, False
        matching = self.rows_matching(term, queryset, "pk")
        return queryset.filter(name__gte=term, name__lt=term + LAST_CHARACTER) if matching is None else matching, False
