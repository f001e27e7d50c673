"""What a user did and what was done to the user: recent requests and audit events together, the newest first."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.models import User
from lucid_gateway.audit.kinds import KINDS, Concerns
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.audit.names import PAGES
from lucid_gateway.console import links
from lucid_gateway.console.user.known import known
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.policy.reasons import REASONS

SHOWN = 25
REQUESTS, AUDIT, BOTH = "requests", "audit", "both"
TONES = {AuditEvent.Outcome.FAILURE: "warn", AuditEvent.Outcome.BLOCKED: "bad"}
MAX_TEXT = 160


@dataclass(frozen=True)
class Entry:
    """A row of the timeline. `whom_lead` and `whom` say who else had a part in it, such as "by" and an email."""

    at: datetime
    text: str
    url: str
    pill: str
    tone: str
    more: str
    address: str
    whom_lead: str = ""
    whom: str = ""
    whom_url: str = ""

    @property
    def whom_name(self) -> str:
        """The email, or an id cut in the middle."""
        return f"{self.whom[:6]}…{self.whom[-4:]}" if is_uuid(self.whom) else self.whom[:60]


@dataclass(frozen=True)
class Timeline:
    """`unknown` names the sources that did not answer."""

    entries: list[Entry]
    unknown: list[str]


def timeline_of(user: User, choice: str) -> Timeline:
    """Return the newest entries: requests, audit events, or both."""
    requests = known(lambda: recent_requests(user)) if choice != AUDIT else []
    events = known(lambda: recent_events(user)) if choice != REQUESTS else []
    found = sorted([*(requests or []), *(events or [])], key=lambda entry: entry.at, reverse=True)
    unknown = [name for name, part in (("requests", requests), ("audit events", events)) if part is None]
    return Timeline(found[:SHOWN], unknown)


def recent_requests(user: User) -> list[Entry]:
    """Return the newest kept requests of the user: one query."""
    rows = KeptRequest.objects.filter(user_id=str(user.pk)).order_by("-kept_id")[:SHOWN]
    return [entry_of_request(row) for row in rows]


def entry_of_request(row: KeptRequest) -> Entry:
    reason = REASONS.get(row.reason)
    return Entry(
        at=row.started_at, text=f"{row.method} {row.path}", url=links.page("request", row.request_id),
        pill=str(row.status), tone="bad" if row.status >= 500 else "warn" if row.status >= 400 else "ok",
        more=reason.text if reason else "", address=row.address,
    )  # fmt: skip


def recent_events(user: User) -> list[Entry]:
    """Return the newest audit events by and about the user, with the names of others: three queries."""
    me = str(user.pk)
    found: dict[Any, AuditEvent] = {}
    for about in ({"subject": me}, {"actor": me}):
        found |= {event.pk: event for event in AuditEvent.objects.filter(**about).order_by("-created_at")[:SHOWN]}
    newest = sorted(found.values(), key=lambda event: event.created_at, reverse=True)[:SHOWN]
    names = names_of({event.actor for event in newest} | {event.subject for event in newest} - {me})
    return [entry_of_event(event, me, names) for event in newest]


def names_of(ids: Iterable[str]) -> dict[str, str]:
    """Return the emails of the users among the ids: one query."""
    users = User.objects.filter(pk__in=list(filter(is_uuid, ids))).values_list("pk", "email")
    return {str(pk): email for pk, email in users}


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def entry_of_event(event: AuditEvent, me: str, names: Mapping[str, str]) -> Entry:
    kind = KINDS.get(event.type)  # None for a type of an earlier release that no longer exists
    lead, who, page = "", "", PAGES[Concerns.USER]
    if event.actor not in ("", me):
        lead, who = "by", event.actor
    elif event.subject not in ("", me):
        lead, who, page = "about", event.subject, PAGES.get(kind.concerns, "") if kind else ""
    return Entry(
        at=event.created_at, text=kind.text if kind else event.type,
        url=links.page("audit_auditevent_change", event.pk),
        pill="" if event.outcome == AuditEvent.Outcome.SUCCESS else event.outcome, tone=TONES.get(event.outcome, ""),  # type: ignore[call-overload]  # a choice is its text
        more=details_in_words(event.details), address=event.address, whom_lead=lead, whom=names.get(who, who),
        whom_url=links.page(page.removeprefix("admin:"), who) if page and is_uuid(who) else "",
    )  # fmt: skip


def details_in_words(details: Mapping[str, Any]) -> str:
    """Return the reason and what changed, as far as the event holds them."""
    parts = [f"{name.replace('_', ' ')}: {shown(old)} → {shown(new)}" for name, (old, new) in changes_of(details)]
    if reason := details.get("reason"):
        parts.append(f"“{reason}”")
    if method := details.get("method"):
        parts.append(f"with {str(method).replace('+', ' and ').replace('_', ' ')}")
    text = "; ".join(parts)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def changes_of(details: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    """Return (field, (old value, new value)) of each change."""
    changes = details.get("changes") or {}
    return [(name, (values[0], values[1])) for name, values in changes.items() if len(values) == 2]


def shown(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)
