"""The page of one session, with the uploads of its chunks that were refused or failed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from lucid_gateway.console.known import known
from lucid_gateway.explorer.conditions import NotEmpty, path_below
from lucid_gateway.explorer.pages import Shown, shown
from lucid_gateway.explorer.searching import Search, find
from sessions_api.admin.session_page import UPLOADS
from sessions_api.admin.sessions import SessionAdmin
from sessions_api.models import Session

MOST_SHOWN = 20


def refused_uploads(session: Session) -> list[Shown]:
    """Return the newest kept requests about chunks of the session that were not answered."""
    conditions = (path_below(UPLOADS.format(session.pk)), NotEmpty("reason"))
    return shown(find(Search(conditions, limit=MOST_SHOWN)).rows)


@admin.register(Session)
class SessionPages(SessionAdmin):
    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the session with the uploads that were refused; None stands for a database that does not answer."""
        session: Session | None = options.get("obj")
        more = {"refused": known(lambda: refused_uploads(session))} if session is not None else {}
        return super().render_change_form(request, context | more, *args, **options)
