"""The operator pages for the audit log."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from lucid_gateway.audit.event_page import TONES, facts_of, links_of
from lucid_gateway.audit.events import record
from lucid_gateway.audit.export import EXPORTS, export
from lucid_gateway.audit.filters import GroupFilter, KindFilter, TimeFilter
from lucid_gateway.audit.kinds import Concerns, text_of
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.audit.names import actor_of, names_of, subject_of
from lucid_gateway.audit.search import matching
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, operator_of
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.links import change_page
from lucid_gateway.operators.long_lists import LongList, LongListPaginator
from lucid_gateway.operators.row_actions import RowButton


class EventList(LongList):
    """A page of events whose names are read together: one query for each kind of row."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        names = names_of(reference for event in self.result_list for reference in (actor_of(event), subject_of(event)))
        for event in self.result_list:
            event.actor_name, event.subject_name = names[actor_of(event)], names[subject_of(event)]


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    paginator = LongListPaginator
    show_full_result_count = False
    list_display = ("created_at", "what", "outcome", "by", "whom", "address")
    list_display_links = None  # of an event, only the words are a link
    list_filter = ("outcome", ("created_at", TimeFilter), GroupFilter, KindFilter)
    sortable_by = ("created_at",)
    search_fields = ("type",)
    search_help_text = "Email, id, address or network, type such as lockout., request id"
    change_list_template = "admin/audit_events.html"
    change_form_template = "admin/audit_event.html"
    pills = {"outcome": TONES}

    @admin.display(description="Event")
    def what(self, event: AuditEvent) -> str:
        words = text_of(event.type)
        return format_html(
            '<div class="two"><a href="{}"><span class="cut" title="{}">{}</span></a><code>{}</code></div>',
            change_page(event), words, words, event.type,
        )  # fmt: skip

    @admin.display(description="Actor")
    def by(self, event: Any) -> str:
        return linked(event.actor_name)

    @admin.display(description="Subject")
    def whom(self, event: Any) -> str:
        return linked(event.subject_name)

    def row_links(self, row: AuditEvent) -> Iterable[RowButton]:
        """Return the buttons that open the request and the form that blocks the address."""
        links = links_of(row)
        if links["request"]:
            yield RowButton("", "Request", link=links["request"])
        if links["block"]:
            yield RowButton("", "Block…", harmful=True, link=links["block"])

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AuditEvent], search_term: str
    ) -> tuple[QuerySet[AuditEvent], bool]:
        """Search by values that have an index."""
        return matching(queryset, search_term) if search_term.strip() else queryset, False  # type: ignore[arg-type]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; that of one actor says so in its heading."""
        return super().changelist_view(request, {"heading": heading_of(request), **(extra_context or {})})

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show who did what, with old and new values."""
        row: AuditEvent | None = options.get("obj")
        facts = facts_of(row) if row else {}
        return super().render_change_form(request, context | facts, *args, **options)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/<str:form>/", view, name="audit_auditevent_export"), *super().get_urls()]

    def export(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Return all pages of the list, with its current filters, as a download."""
        if form not in EXPORTS:
            raise Http404()
        try:
            events = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            self.message_user(request, "This filter does not exist.", messages.ERROR)
            return HttpResponseRedirect(reverse("admin:audit_auditevent_changelist"))
        own = record("audit.exported", actor=operator_of(request), format=form)
        return export(events.exclude(pk=own.pk), form)


def linked(name: Name) -> str:
    """Return the name as HTML, empty for an event without an actor or a subject."""
    return name.as_html() if name.text else ""


def heading_of(request: HttpRequest) -> str:
    """Return the heading of the events of one actor, or an empty text for any other list."""
    actor = request.GET.get("actor__exact", "")
    if not actor:
        return ""
    if actor == str(request.user.pk):
        return "What you have done"
    reference = (Concerns.USER, actor)
    return f"What {names_of([reference])[reference].text} has done"
