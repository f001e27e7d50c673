"""What the pages of rows that belong to users have in common."""

import uuid
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.models import User
from lucid_gateway.operators.confirmation import ReadOnlyAdmin
from lucid_gateway.operators.long_lists import LongListPaginator
from lucid_gateway.operators.search import HYPHENATED


class OwnedList(ChangeList):
    """A page of rows with their users, who are read for all of them at once: MongoDB would join users to all rows
    before it looks for the page's.
    """

    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        users = User.objects.in_bulk({row.user_id for row in self.result_list})
        for row in self.result_list:
            row.user = users[row.user_id]


class OwnedAdmin(ReadOnlyAdmin):
    """Records that lead to their users and to what the audit log has of them."""

    list_select_related = False
    paginator = LongListPaginator
    show_full_result_count = False

    @admin.display(description="User")
    def owner(self, row: Any) -> str:
        """Link to the user."""
        return format_html('<a href="{}">{}</a>', reverse("admin:accounts_user_change", args=[row.user_id]), row.user)

    def linked(self, model: str, key: uuid.UUID | None) -> str:
        """Return the key as a link to its page, or that there is none."""
        if key is None:
            return self.get_empty_value_display()
        return format_html('<a href="{}">{}</a>', reverse(f"admin:sessions_api_{model}_change", args=[key]), key)

    @admin.display(description="Audit events")
    def audit_events(self, row: Any) -> str:
        """Link to what happened to the row."""
        events = reverse("admin:audit_auditevent_changelist")
        return format_html('<a href="{}?q={}">audit events</a>', events, row.pk)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list that reads its users at once."""
        return OwnedList

    def named_by(self, term: str, rows: QuerySet[Any], *keys: str) -> QuerySet[Any] | None:
        """Return those of the rows that a whole id is of, or their user's, or a whole email or username; None if the
        term is none of these.
        """
        if HYPHENATED.fullmatch(term):
            return rows.filter(Q(*((key, term) for key in (*keys, "user_id")), _connector=Q.OR))
        user = User.objects.filter(Q(email=term.lower()) | Q(username=term.lower())).first()
        return None if user is None else rows.filter(user_id=user.pk)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow links to what a user has."""
        return lookup == "user__user_id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]
