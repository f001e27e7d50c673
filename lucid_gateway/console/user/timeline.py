"""What a user did and what was done to the user: recent requests and audit events together, the newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from accounts.models import User
from lucid_gateway.audit.event_page import TONES, changes_of
from lucid_gateway.audit.kinds import text_of
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.audit.names import Reference, actor_of, names_of, subject_of
from lucid_gateway.console.known import known
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.operators import links
from lucid_gateway.operators.directory import Name
from lucid_gateway.policy.reasons import REASONS

SHOWN = 25
REQUESTS, AUDIT, BOTH = "requests", "audit", "both"
MAX_TEXT = 160
NOBODY: Reference = ("", "")


@dataclass(frozen=True)
class Entry:
    """A row of the timeline. `lead` and `other` say who or what else had a part in it, such as "by" and an email."""

    at: datetime
    text: str
    url: str
    pill: str
    tone: str
    more: str
    address: str
    lead: str = ""
    other: Name | None = None


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
    """Return the newest audit events by and about the user: two queries, and one for the names of each kind of row."""
    me = str(user.pk)
    found: dict[Any, AuditEvent] = {}
    for about in ({"subject": me}, {"actor": me}):
        found |= {event.pk: event for event in AuditEvent.objects.filter(**about).order_by("-created_at")[:SHOWN]}
    newest = sorted(found.values(), key=lambda event: event.created_at, reverse=True)[:SHOWN]
    others = {event.pk: other_of(event, me) for event in newest}
    names = names_of([reference for reference in others.values() if reference])
    return [entry_of_event(event, me, names.get(others[event.pk] or NOBODY)) for event in newest]


def other_of(event: AuditEvent, me: str) -> Reference | None:
    """Return who or what else had a part in the event: its actor, or its subject if the user is the actor."""
    if event.actor not in ("", me):
        return actor_of(event)
    return subject_of(event) if event.subject not in ("", me) else None


def entry_of_event(event: AuditEvent, me: str, other: Name | None) -> Entry:
    return Entry(
        at=event.created_at, text=text_of(event.type), url=links.page("audit_auditevent_change", event.pk),
        pill="" if event.outcome == AuditEvent.Outcome.SUCCESS else event.outcome, tone=TONES.get(event.outcome, ""),
        more=details_in_words(event.details), address=event.address,
        lead="by" if event.actor not in ("", me) else "about", other=other,
    )  # fmt: skip


def details_in_words(details: Any) -> str:
    """Return the reason and what changed, as far as the event holds them."""
    if not isinstance(details, dict):
        return ""
    changes = changes_of(details.get("changes"))
    parts = [f"{change.field}: {change.before} → {change.after}" for change in changes]
    reason = details.get("reason")
    if reason and reason not in [change.after for change in changes]:
        parts.append(f"“{reason}”")
    if method := details.get("method"):
        parts.append(f"with {str(method).replace('+', ' and ').replace('_', ' ')}")
    text = "; ".join(parts)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
