"""What the lists of rows that belong to users have in common: here tokens, devices and API keys; recordings, too."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts.admin.users import keys_of_users, several_or_staff
from accounts.models import User
from accounts.users.staff import may_manage
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, operator_of
from lucid_gateway.operators.long_lists import LongList, LongListPaginator

MAX_USERS = 100


def several_or_of_staff(rows: Sequence[Any]) -> bool:
    """Return whether an action would change several rows at once, or one of the staff's."""
    return several_or_staff([row.user for row in rows])


class OwnedList(LongList):
    """A page of rows whose users are read in one query: with a join, MongoDB would read the users of all rows first.

    `is_manageable` of a row says whether the operator may act on its user.
    """

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        users = User.objects.in_bulk({row.user_id for row in self.result_list})
        operator = operator_of(request)
        for row in self.result_list:
            row.user = users[row.user_id]
            row.is_manageable = may_manage(operator.role, operator.pk, row.user)


class OwnedRows(ReadOnlyAdmin):
    """Read-only rows that link to their users."""

    list_select_related = False
    paginator = LongListPaginator
    show_full_result_count = False

    @admin.display(description="User")
    def owner(self, row: Any) -> str:
        """Return the user's email, as a link to the user's page."""
        page = reverse("admin:accounts_user_change", args=[row.user_id])
        return format_html('<a href="{}" class="cut" title="{}">{}</a>', page, row.user, row.user)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return OwnedList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow the filter that the links on a user's page use."""
        return lookup == "user__user_id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]


class OwnedAdmin(OwnedRows):
    """Rows of users, with buttons where the operator may act on the user."""

    def row_action_applies(self, action: str, row: Any) -> bool:
        """Return whether the action can change this row, and the operator may act on its user."""
        return bool(row.is_manageable) and self.state_allows(action, row)

    def state_allows(self, action: str, row: Any) -> bool:
        """Return whether the action can change this row."""
        return True

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the rows that the text names, and those of users whose email or username begins with it."""
        text = search_term.strip()
        if not text:
            return queryset, False
        users = keys_of_users(text)[:MAX_USERS]
        return queryset.filter(self.named(text) | Q(user__in=users) if users else self.named(text)), False

    def named(self, text: str) -> Q:
        """Return the condition for rows that the text names; it reads a limited number of rows."""
        raise NotImplementedError
