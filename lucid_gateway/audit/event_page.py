"""What the page of one event shows: who did what, the old and the new values, and where to look next."""

import json
from dataclasses import dataclass
from typing import Any

from lucid_gateway.audit.kinds import text_of
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.audit.names import API_KEY, Reference, actor_of, names_of, subject_of
from lucid_gateway.operators.links import block_page, page

LOG = "audit_auditevent_changelist"
TONES: dict[str, str] = {"success": "ok", "failure": "warn", "blocked": "bad"}  # of the pill of an outcome
NOTHING = "–"


@dataclass(frozen=True)
class Change:
    """A changed field with its old and new value as texts."""

    field: str
    before: str
    after: str


def facts_of(event: AuditEvent) -> dict[str, Any]:
    """Return the context of the page: at most four queries for names."""
    details = dict(event.details) if isinstance(event.details, dict) else {}
    changes = changes_of(details.pop("changes", {}))
    key: Reference = (API_KEY, str(details.get("key_id", "")))
    names = names_of([actor_of(event), subject_of(event), key])
    if changes:
        for shown in ("fields", "before", "after"):
            details.pop(shown, None)
    return {
        "text": text_of(event.type),
        "tone": TONES.get(event.outcome, ""),
        "by": names[actor_of(event)],
        "whom": names[subject_of(event)] if event.subject and event.subject != event.actor else None,
        "key": names[key] if names[key].url else None,
        "changes": changes,
        "facts": [(in_words(name), as_text(value)) for name, value in details.items()],
        "links": links_of(event),
    }


def changes_of(stored: Any) -> list[Change]:
    """Return the changes of an event's details."""
    if not isinstance(stored, dict):
        return []
    return [Change(in_words(name), *map(as_text, values)) for name, values in stored.items() if is_pair(values)]


def is_pair(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 2


def in_words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def as_text(value: Any) -> str:
    """Return a JSON value as people read it."""
    if value is None or value in ("", [], {}):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return ", ".join(map(str, value))
    if isinstance(value, str | int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, indent=1)


def links_of(event: AuditEvent) -> dict[str, str]:
    """Return the addresses of related pages by name; those that this gateway does not have are empty."""
    request_id, address = event.request_id, event.address
    return {
        "by_actor": page(LOG, actor__exact=event.actor) if event.actor else "",
        "about": page(LOG, q=event.subject) if event.subject else "",
        "same_request": page(LOG, q=request_id) if request_id else "",
        "request": page("request", request_id) if request_id else "",
        "address": page(LOG, q=address) if address else "",
        "requests": page("requests", address=address) if address else "",
        "block": block_page(address),
    }
