"""The operator pages for the audit log."""

from django.contrib import admin
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path

from accounts.admin.confirmation import ReadOnlyAdmin
from accounts.admin.users import operator_of
from accounts.audit import record
from accounts.models import AuditEvent
from accounts.views.staff import EXPORTS, export
from lucid_gateway.errors import NotFound


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "type", "outcome", "actor", "subject", "address", "request_id")
    list_filter = ("outcome", "created_at", "type")
    sortable_by = ("created_at",)
    search_fields = ("=type", "=actor", "=subject", "=address", "=request_id")
    search_help_text = "The exact type, actor, subject, address or request id"
    change_list_template = "admin/accounts/audit_events.html"

    def get_urls(self) -> list[URLPattern]:
        """Add the exports."""
        view = self.admin_site.admin_view(self.export)
        return [path("export/<str:form>/", view, name="accounts_auditevent_export"), *super().get_urls()]

    def export(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Return what the list shows with these filters, all pages of it, as a download."""
        if form not in EXPORTS:
            raise NotFound()
        events = self.get_changelist_instance(request).get_queryset(request)
        record("audit.exported", actor=operator_of(request), format=form)
        return export(events, form)
