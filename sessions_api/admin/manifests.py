"""The operator pages for manifests: what is proved of whose sessions, and what became of their anchoring."""

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
    search_help_text = "The whole email or username of its user, or the whole id of manifest, session or user"
    fields = (
        "manifest_id", "recorded_session", "owner", "merkle_root", "chunk_count", "size", "created_at", "updated_at",
        "validation_status", "validated_at", "anchor_status", "anchor_transaction_id", "anchor_block_height",
        "anchor_error", "anchor_requested_at", "anchored_at", "metadata", "audit_events", "version",
    )  # fmt: skip

    @admin.display(description="Manifest")
    def short_id(self, manifest: Manifest) -> str:
        """Return as much of the id as a column takes."""
        return f"{str(manifest.pk)[:8]}…"

    @admin.display(description="Chunks")
    def chunks(self, manifest: Manifest) -> int:
        """Return how many chunks it proves."""
        return manifest.chunk_count

    @admin.display(description="Validation")
    def validation(self, manifest: Manifest) -> str:
        """Return what was found when it was looked at last."""
        return manifest.get_validation_status_display()

    @admin.display(description="Anchoring")
    def anchoring(self, manifest: Manifest) -> str:
        """Return whether the chain holds the root."""
        return manifest.get_anchor_status_display()

    @admin.display(description="Session")
    def recorded_session(self, manifest: Manifest) -> str:
        """Link to the session."""
        return self.linked("session", manifest.session_id)

    @admin.display(description="Size")
    def size(self, manifest: Manifest) -> str:
        """Return how much its chunks are."""
        return filesizeformat(manifest.total_size)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Manifest], search_term: str
    ) -> tuple[QuerySet[Manifest], bool]:
        """Find by whole ids and by users."""
        term = search_term.strip()
        if not term:
            return queryset, False
        named = self.named_by(term, queryset, "pk", "session_id")
        return queryset.none() if named is None else named, False
