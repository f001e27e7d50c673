"""The base of the operator pages for sessions, manifests and trust policies."""

from typing import Any

from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.utils.html import format_html

from accounts.admin.owned import OwnedRows
from accounts.models import User
from lucid_gateway.operators.links import change_page
from lucid_gateway.operators.search import HYPHENATED
from lucid_gateway.operators.templatetags.console import cut


class RecordingAdmin(OwnedRows):
    """Read-only records of users, which are found by their ids and their users."""

    list_display_links = None  # the name is the link, so that the id beside it can have its own button

    def named(self, name: str, row: Any) -> str:
        """Return the cell of a row: its name as a link, and its id cut in the middle."""
        return format_html(
            '<div class="two"><a href="{}"><span class="cut" title="{}">{}</span></a><br>{}</div>',
            change_page(row), name, name, cut(row.pk),
        )  # fmt: skip

    def row_or_404(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row that staff may see; raise Http404."""
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404()
        return row

    def rows_matching(self, term: str, rows: QuerySet[Any], *keys: str) -> QuerySet[Any] | None:
        """Return the rows with the term as their id or their user's id, email or username; None if the term is neither
        a UUID nor a known email or username.
        """
        if HYPHENATED.fullmatch(term):
            return rows.filter(Q(*((key, term) for key in (*keys, "user_id")), _connector=Q.OR))
        user = User.objects.filter(Q(email=term.lower()) | Q(username=term.lower())).first()
        return None if user is None else rows.filter(user_id=user.pk)
