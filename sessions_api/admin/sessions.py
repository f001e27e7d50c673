"""The operator pages for sessions."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from accounts.admin.owned import OwnedList
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import size
from lucid_gateway.operators.row_actions import RowButton
from lucid_gateway.operators.search import keys_beginning_with
from sessions_api.admin.recordings import RecordingAdmin
from sessions_api.admin.session_page import facts_of, start_of, uploads_of
from sessions_api.models import Session
from sessions_api.models.sessions import SessionQuerySet
from sessions_api.totals import settle_all


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


class SessionAdmin(RecordingAdmin):
    """The list and the page of a session; the console adds its refused uploads and registers both."""

    list_display = ("short_name", "owner", "status", "created_at", "completed_at", "chunks", "size")
    list_filter = ("status", "created_at", DeletionFilter)
    sortable_by = ("created_at",)
    search_fields = ("name",)
    search_help_text = "Beginning of the name, email or username, or id of the session or user"
    fields = ("session_id",)
    change_form_template = "admin/sessions_api/session.html"
    pills = {"status": {"active": "ok", "completed": "", "failed": "bad", "cancelled": "warn"}}

    @admin.display(description="Name")
    def short_name(self, session: Session) -> str:
        return self.named(session.name, session)

    @admin.display(description="Chunks")
    def chunks(self, session: Session) -> int:
        return session.chunk_count

    @admin.display(description="Size")
    def size(self, session: Session) -> str:
        return size(session.size_bytes)

    def row_links(self, row: Session) -> Iterable[RowButton]:
        """Return the buttons that open the requests of its uploads, and its manifest."""
        yield RowButton("", "Uploads", link=uploads_of(row))
        if row.manifest_id:
            yield RowButton("", "Manifest", link=page("sessions_api_manifest_change", row.manifest_id))

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
        if matching is None:
            matching = queryset.filter(pk__in=keys_beginning_with(Session.objects.all(), term, "name"))
        return matching, False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the session with a page of its chunks."""
        row: Session | None = options.get("obj")
        facts = facts_of(row, start_of(request.GET.get("from", ""))) if row else {}
        return super().render_change_form(request, context | facts, *args, **options)
