"""Writes the audit log: who did what, to what, from where, and with what outcome."""

import json
import re
from collections.abc import Mapping
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from lucid_gateway.audit.kinds import KINDS, Concerns
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.record import current_record, note_claim
from lucid_gateway.server.samples import count

logger = structlog.get_logger("audit")
USER_AGENT_LENGTH = 200
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# A longer value of a change is stored as the beginning of its JSON.
VALUE_LENGTH = 500
# A user, of whom only the id is recorded, or an id.
Who = Model | str | None
# The old and the new value of each field that changed.
Changes = dict[str, list[Any]]
SUCCESS, FAILURE, BLOCKED = AuditEvent.Outcome.SUCCESS, AuditEvent.Outcome.FAILURE, AuditEvent.Outcome.BLOCKED


def record(
    kind: str,
    *,
    subject: Who = None,
    actor: Who = None,
    outcome: AuditEvent.Outcome = SUCCESS,
    changes: Changes | None = None,
    **details: Any,
) -> AuditEvent:
    """Write an event and, in a request, a log line. `subject` and `actor` are users or ids; `details` are JSON without
    secrets. Without `actor`, the actor is the subject or, outside of requests, `manage.py`.

    `changes`, from `changed`, become a part of the details. The log line lacks them: they may hold an email or a name,
    which must vanish with the account.

    Raises KeyError if `kind` is not a name of `audit.kinds`.
    """
    origin = current_record()
    event = AuditEvent(
        type=KINDS[kind].name,
        outcome=outcome,
        actor=id_of(actor) or origin.actor or id_of(subject),
        subject=id_of(subject),
        address=origin.client_address,
        user_agent=origin.user_agent[:USER_AGENT_LENGTH],
        request_id=origin.request_id,
        details=details | ({"changes": changes} if changes else {}),
    )
    event.save()
    count("events", kind)
    if KINDS[kind].concerns is Concerns.USER and UUID.fullmatch(event.subject):
        note_claim("login", "", event.subject)
    if origin.request_id:  # commands print their own messages
        logger.info("audit", type=kind, outcome=str(outcome), actor=event.actor, subject=event.subject, details=details)
    return event


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return the old and the new value of each field of `after` whose value differs."""
    return {name: [plain(before.get(name)), plain(value)] for name, value in after.items() if before.get(name) != value}


def plain(value: Any) -> Any:
    """Return a value as JSON holds it; of a long one, the beginning of its text."""
    text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
    return json.loads(text) if len(text) <= VALUE_LENGTH else f"{text[:VALUE_LENGTH]}…"


def id_of(who: Who) -> str:
    """Return the id that the log records, or "": never an email or a name."""
    return str(who.pk) if isinstance(who, Model) else who or ""
