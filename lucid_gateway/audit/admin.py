"""The operator pages for the audit log."""

import uuid

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from lucid_gateway.audit.events import record
from lucid_gateway.audit.export import EXPORTS, export
from lucid_gateway.audit.kinds import KINDS, Concerns
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, operator_of
from lucid_gateway.operators.long_lists import LongListPaginator

# What an event concerns -> the page of its subject.
PAGES = {
    Concerns.USER: "admin:accounts_user_change",
    Concerns.SESSION: "admin:sessions_api_session_change",
    Concerns.MANIFEST: "admin:sessions_api_manifest_change",
    Concerns.TRUST_POLICY: "admin:sessions_api_trustpolicy_change",
}


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    paginator = LongListPaginator
    show_full_result_count = False
    list_display = ("created_at", "type", "outcome", "by", "whom", "address", "request_id")
    fields = (
        "event_id", "created_at", "type", "outcome", "by", "whom", "address", "user_agent", "request_id", "details",
    )  # fmt: skip
    list_filter = ("outcome", "created_at", "type")
    sortable_by = ("created_at",)
    search_fields = ("=type", "=actor", "=subject", "=address", "=request_id")
    search_help_text = "The exact type, actor, subject, address or request id"
    change_list_template = "admin/audit_events.html"

    @admin.display(description="Actor")
    def by(self, event: AuditEvent) -> str:
        return linked(event.actor)

    @admin.display(description="Subject")
    def whom(self, event: AuditEvent) -> str:
        kind = KINDS.get(event.type)  # None for a type of an earlier release that no longer exists
        return linked(event.subject, PAGES.get(kind.concerns, "") if kind else "")

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


def linked(who: str, page_name: str = PAGES[Concerns.USER]) -> str:
    """Return the id, as a link to its page if the page exists and the id is a UUID."""
    try:
        page = reverse(page_name, args=[uuid.UUID(who)]) if page_name else None
    except ValueError:
        page = None
    if page is None:
        return who
    return format_html('<a href="{}">{}</a>', page, who)
