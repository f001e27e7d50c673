"""The base of the operator pages for rows that belong to users."""

import uuid
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.admin.owned import OwnedList
from accounts.models import User
from lucid_gateway.operators.confirmation import ReadOnlyAdmin
from lucid_gateway.operators.long_lists import LongListPaginator
from lucid_gateway.operators.search import HYPHENATED


class OwnedAdmin(ReadOnlyAdmin):
    """Read-only records that link to their user and to their audit events."""

    list_select_related = False
    paginator = LongListPaginator
    show_full_result_count = False

    @admin.display(description="User")
    def owner(self, row: Any) -> str:
        page = reverse("admin:accounts_user_change", args=[row.user_id])
        return format_html('<a href="{}"><span class="cut" title="{}">{}</span></a>', page, row.user, row.user)

    def link_to(self, model: str, key: uuid.UUID | None) -> str:
        """Return a link to the page of the row with that key, or the admin's mark for an empty value."""
        if key is None:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', reverse(f"admin:sessions_api_{model}_change", args=[key]), key)

    @admin.display(description="Audit events")
    def audit_events(self, row: Any) -> str:
        events = reverse("admin:audit_auditevent_changelist")
        return format_html('<a href="{}?q={}">audit events</a>', events, row.pk)

    def named(self, name: str, key: uuid.UUID) -> str:
        """Return the cell of a row: its name, and its id cut in the middle."""
        text = str(key)
        return format_html(
            '<span class="two"><b title="{}">{}</b><code title="{}">{}…{}</code></span>', name, name, text, text[:6],
            text[-4:],
        )  # fmt: skip

    def row_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row that staff may see; raise Http404."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404()
        return row

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OwnedList

    def rows_matching(self, term: str, rows: QuerySet[Any], *keys: str) -> QuerySet[Any] | None:
        """Return the rows with the term as their id or their user's id, email or username; None if the term is neither
        a UUID nor a known email or username.
        """
        if HYPHENATED.fullmatch(term):
            return rows.filter(Q(*((key, term) for key in (*keys, "user_id")), _connector=Q.OR))
        user = User.objects.filter(Q(email=term.lower()) | Q(username=term.lower())).first()
        return None if user is None else rows.filter(user_id=user.pk)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # The page of a user links here with this filter.
        return lookup == "user__user_id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]
