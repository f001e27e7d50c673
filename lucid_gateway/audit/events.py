"""The audit log: who did what to whom, from where, and what came of it."""

from typing import Any

import structlog
from django.db.models import Model

from lucid_gateway.audit.kinds import KINDS
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.record import current_record

logger = structlog.get_logger("audit")
USER_AGENT_LENGTH = 200
# A user (whose key is noted), or an id.
Who = Model | str | None
SUCCESS, FAILURE, BLOCKED = AuditEvent.Outcome.SUCCESS, AuditEvent.Outcome.FAILURE, AuditEvent.Outcome.BLOCKED


def record(
    kind: str,
    *,
    subject: Who = None,
    actor: Who = None,
    outcome: AuditEvent.Outcome = SUCCESS,
    **details: Any,
) -> AuditEvent:
    """Write an event and, in a request, a line of the log. `kind` is a name of `audit.kinds`, else KeyError is raised;
    `subject` and `actor` are users or ids.

    `details` is JSON without secrets. Without an actor it is the subject's own doing, or outside of requests a
    command's.
    """
    at = current_record()
    event = AuditEvent(
        type=KINDS[kind].name,
        outcome=outcome,
        actor=name_of(actor) or at.actor or name_of(subject),
        subject=name_of(subject),
        address=at.client_address,
        user_agent=at.user_agent[:USER_AGENT_LENGTH],
        request_id=at.request_id,
        details=details,
    )
    event.save()
    if at.request_id:  # what commands print is theirs alone
        logger.info("audit", type=kind, outcome=str(outcome), actor=event.actor, subject=event.subject, details=details)
    return event


def name_of(who: Who) -> str:
    """Return the id under which the log speaks of somebody: no email and no name."""
    return str(who.pk) if isinstance(who, Model) else who or ""
