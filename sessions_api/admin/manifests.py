"""The operator pages for manifests: which chunks they prove, and the state of their anchoring."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from sessions_api.admin.owned import OwnedAdmin
from sessions_api.models import Manifest


@admin.register(Manifest)
class ManifestAdmin(OwnedAdmin):
    list_display = ("short_id", "owner", "anchoring", "validation", "chunks", "size", "created_at")
    list_filter = ("anchor_status", "validation_status", "created_at")
    sortable_by = ("created_at",)
    search_fields = ("manifest_id",)
    search_help_text = "Full email or username of the user, or full id of the manifest, session or user"
    fields = (
        "manifest_id", "recorded_session", "owner", "merkle_root", "chunk_count", "size", "created_at", "updated_at",
        "validation_status", "validated_at", "anchor_status", "anchor_transaction_id", "anchor_block_height",
        "anchor_error", "anchor_requested_at", "anchored_at", "metadata", "audit_events", "version",
    )  # fmt: skip

    @admin.display(description="Manifest")
    def short_id(self, manifest: Manifest) -> str:
        return f"{str(manifest.pk)[:8]}…"

    @admin.display(description="Chunks")
    def chunks(self, manifest: Manifest) -> int:
        return manifest.chunk_count

    @admin.display(description="Validation")
    def validation(self, manifest: Manifest) -> str:
        """Return the result of the last verification."""
        return manifest.get_validation_status_display()

    @admin.display(description="Anchoring")
    def anchoring(self, manifest: Manifest) -> str:
        return manifest.get_anchor_status_display()

    @admin.display(description="Session")
    def recorded_session(self, manifest: Manifest) -> str:
        return self.link_to("session", manifest.session_id)

    @admin.display(description="Size")
    def size(self, manifest: Manifest) -> str:
        return filesizeformat(manifest.total_size)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Manifest], search_term: str
    ) -> tuple[QuerySet[Manifest], bool]:
        """Search by full ids and users, which have indexes."""
        term = search_term.strip()
        if not term:
            return queryset, False
        matching = self.rows_matching(term, queryset, "pk", "session_id")
        return queryset.none() if matching is None else matching, False
