"""The operator pages for manifests: which chunks they prove, and the state of their anchoring."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse

from accounts.admin.owned import OwnedList
from accounts.callers import caller_of_user
from accounts.models import User
from accounts.users.staff import may_manage
from lucid_gateway.kernel.record import record_of
from lucid_gateway.operators.confirmation import ask, operator_of
from lucid_gateway.operators.danger import always
from lucid_gateway.operators.numbers import size
from lucid_gateway.operators.row_actions import RowButton
from lucid_gateway.policy.errors import GatewayError
from sessions_api.admin.manifest_page import MAX_CHUNKS, anchored, facts_of, steps
from sessions_api.admin.recordings import RecordingAdmin
from sessions_api.anchoring import anchor
from sessions_api.cooperation import letting_others_run
from sessions_api.manifests import Verification, verify
from sessions_api.models import Manifest, Session

PROOFS_AT_A_TIME = 200
VERIFY = "The gateway computes the Merkle root and every proof again from the recorded chunks, and stores the result."
ANCHOR = "The gateway sends the Merkle root to the blockchain, for the owner of the session. This cannot be undone."


def may_act_for_owner(operator: User, manifest: Manifest) -> bool:
    """Return whether the operator may change the recordings of the manifest's owner."""
    return may_manage(operator.role, operator.pk, manifest.user)


class ManifestList(OwnedList):
    """A page of manifests with the names of their sessions, read in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        keys = {row.session_id for row in self.result_list}
        names = dict(Session.objects.filter(pk__in=keys).values_list("pk", "name"))
        for row in self.result_list:
            row.session_name = names.get(row.session_id, "")


@admin.register(Manifest)
class ManifestAdmin(RecordingAdmin):
    list_display = ("short_id", "owner", "anchoring", "validation", "chunks", "size", "created_at")
    list_filter = ("anchor_status", "validation_status", "created_at")
    sortable_by = ("created_at",)
    search_fields = ("manifest_id",)
    search_help_text = "Email or username, or id of the manifest, session or user"
    fields = ("manifest_id",)
    change_form_template = "admin/sessions_api/manifest.html"
    dangerous_actions = {"anchor": always}
    pills = {
        "anchoring": {"Confirmed": "ok", "Pending": "warn", "Failed": "bad"},
        "validation": {"Valid": "ok", "Invalid": "bad"},
    }

    @admin.display(description="Manifest of")
    def short_id(self, manifest: Any) -> str:
        return self.named(manifest.session_name, manifest)

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

    @admin.display(description="Size")
    def size(self, manifest: Manifest) -> str:
        return size(manifest.total_size)

    def row_links(self, row: Any) -> Iterable[RowButton]:
        """Return the buttons of the manifest's page."""
        return [RowButton("", text, link=address) for text, address, _ in steps(row, may_anchor=row.is_manageable)]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ManifestList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Manifest], search_term: str
    ) -> tuple[QuerySet[Manifest], bool]:
        """Search by full ids and users, which have indexes."""
        term = search_term.strip()
        if not term:
            return queryset, False
        matching = self.rows_matching(term, queryset, "pk", "session_id")
        return queryset.none() if matching is None else matching, False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the manifest, with the proof of a chunk if the query asks for one."""
        row: Manifest | None = options.get("obj")
        facts = facts_of(row, request.GET.get("proof", "")) if row else {}
        if row:
            facts["steps"] = list(steps(row, may_anchor=may_act_for_owner(operator_of(request), row)))
        return super().render_change_form(request, context | facts, *args, **options)

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the buttons, and Django's."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/verify/", view(self.verify), name="sessions_api_manifest_verify"),
            path("<path:object_id>/anchor/", view(self.anchor), name="sessions_api_manifest_anchor"),
            *super().get_urls(),
        ]

    def verify(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask, then verify the manifest."""
        manifest: Manifest = self.row_or_404(request, object_id)
        if manifest.chunk_count > MAX_CHUNKS:
            text = f"It has more than {MAX_CHUNKS:,} chunks. Run: manage.py verify_manifest {manifest.pk}"
            return self.back_to(request, manifest, text, messages.WARNING)
        data, page = ask(self, request, None, action="verify", title="Verify the manifest", warning=VERIFY)
        if data is None:
            assert page is not None
            return page
        verdict = verdict_on(manifest, by=operator_of(request))
        if verdict.valid:
            return self.back_to(request, manifest, "Every chunk matches the manifest.", messages.SUCCESS)
        return self.back_to(request, manifest, "The chunks do not match the manifest.", messages.ERROR)

    def anchor(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Ask, then anchor the manifest or check the pending attempt, as its owner would.

        Raises PermissionDenied unless the operator may act on the owner.
        """
        manifest: Manifest = self.row_or_404(request, object_id)
        if not may_act_for_owner(operator_of(request), manifest):
            raise PermissionDenied()
        data, page = ask(
            self, request, None, action="anchor", about=[manifest], title="Anchor the manifest", warning=ANCHOR
        )
        if data is None:
            assert page is not None
            return page
        try:
            manifest = anchor(
                manifest, caller=caller_of_user(manifest.user), request_id=record_of(request).request_id,
                by=operator_of(request),
            )  # fmt: skip
        except GatewayError as error:
            return self.back_to(request, manifest, f"{error.message}.", messages.ERROR)
        is_bad = manifest.anchor_status == Manifest.Anchor.FAILED
        return self.back_to(request, manifest, anchored(manifest), messages.ERROR if is_bad else messages.SUCCESS)

    def back_to(self, request: HttpRequest, manifest: Manifest, text: str, level: int) -> HttpResponse:
        """Return to the page of the manifest with a message."""
        self.message_user(request, text, level)
        return HttpResponseRedirect(reverse("admin:sessions_api_manifest_change", args=[manifest.pk]))


def verdict_on(manifest: Manifest, *, by: Any) -> Verification:
    """Verify the manifest while the worker's other requests go on."""
    for step in letting_others_run(verify(manifest, by=by), PROOFS_AT_A_TIME):
        if isinstance(step, Verification):
            return step
    raise RuntimeError("the verification ended without a verdict")
