"""A preview as a case of the explorer, so that the same sentences, steps and remedies serve both."""

import time
from functools import cached_property

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.console.preview.notes import notes_of, permission_of
from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.cases.caller import Operator
from lucid_gateway.explorer.decided import OBSERVED, UNKNOWN, lines
from lucid_gateway.explorer.explaining import Explanation, explain
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.operators.numbers import counted
from lucid_gateway.server.kept_requests import FinishedRequest


class PreviewCase(Case):
    """The words of a request that nobody has sent."""

    def __init__(self, found: Preview, *, by: Operator | None = None) -> None:
        super().__init__(row_of_preview(found), by=by)
        self.found = found
        self.notes = notes_of(found)
        self.unknown = frozenset(found.unknown)

    @cached_property
    def explanation(self) -> Explanation:
        return explain(self)

    @property
    def sentence(self) -> SafeString:
        """What would happen, as HTML."""
        error, route = self.found.error, self.found.route
        if error is not None:
            what = format_html("{} {}", self.explanation.what, self.explanation.says)
            return format_html("It would be refused with {}: {}", error.status, what)
        to = f"sent to the cluster {route.cluster}" if route else "answered by the gateway itself"
        found = [f"It would be let in, and {to}."]
        if observed := self.named(OBSERVED):
            found.append(f"Without shadow mode it would be refused by: {observed}.")
        if unknown := self.named(UNKNOWN):
            found.append(f"Not known: {unknown}.")
        return format_html("{}", " ".join(found))

    def named(self, tone: str) -> str:
        """Return the names of the lines with this tone."""
        return ", ".join(line.name.lower() for line in lines(self) if line.tone == tone)

    @property
    def how_often(self) -> SafeString:
        """Empty: how often real requests were refused says nothing about this one."""
        return SafeString("")

    @property
    def refusals(self) -> str:
        return ""

    @property
    def permission_needed(self) -> str:
        """The permission that the view asks for."""
        return permission_of(self.found.view, self.row.method) or ""

    @property
    def quota_words(self) -> str:
        """How many requests of today are used."""
        used = self.found.used
        limit = used.decision.limit.daily_quota if used else None
        return f"{used.used.today:,} of {counted(limit, 'request')} used today (UTC)" if used and limit else ""

    @property
    def concurrency_words(self) -> str:
        """How many requests are in progress."""
        used = self.found.used
        limit = used.decision.limit.concurrent_requests if used else None
        return f"{used.used.in_progress:,} of {counted(limit, 'request')} in progress" if used and limit else ""


def row_of_preview(found: Preview) -> KeptRequest:
    """Return the row that the explorer would have, unsaved. Its reason is also one that only shadow mode lets pass."""
    status = found.error.status if found.error else 200
    row = row_of(FinishedRequest(found.record, status, 0, 0.0, time.time(), None))
    observed = (step.reason for step in found.record.steps if step.reason)
    row.reason = row.reason or next(observed, "")
    return row
