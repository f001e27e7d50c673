"""The audit log: who did what to whom, from where, and what came of it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog

from accounts.models import AuditEvent, User

logger = structlog.get_logger("audit")
USER_AGENT_LENGTH = 200
SUCCESS, FAILURE, BLOCKED = AuditEvent.Outcome.SUCCESS, AuditEvent.Outcome.FAILURE, AuditEvent.Outcome.BLOCKED


@dataclass(frozen=True)
class Origin:
    """Where the work at hand comes from: a request's address, user agent and id, or a command's name as `actor`."""

    address: str = ""
    user_agent: str = ""
    request_id: str = ""
    actor: str = ""


# Outside of requests there are commands.
NOWHERE = Origin(actor="manage.py")
origin: ContextVar[Origin] = ContextVar("origin", default=NOWHERE)


def record(
    kind: str,
    *,
    subject: User | str | None = None,
    actor: User | str | None = None,
    outcome: AuditEvent.Outcome = SUCCESS,
    **details: Any,
) -> AuditEvent:
    """Write an event and, in a request, a line of the log. `subject` and `actor` are users or ids.

    `details` is JSON without secrets. Without an actor it is the subject's own doing, or outside of requests a
    command's.
    """
    at = origin.get()
    event = AuditEvent(
        type=kind,
        outcome=outcome,
        actor=name_of(actor) or at.actor or name_of(subject),
        subject=name_of(subject),
        address=at.address,
        user_agent=at.user_agent[:USER_AGENT_LENGTH],
        request_id=at.request_id,
        details=details,
    )
    event.save()
    if at.request_id:  # what commands print is theirs alone
        logger.info("audit", type=kind, outcome=str(outcome), actor=event.actor, subject=event.subject, details=details)
    return event


def name_of(who: User | str | None) -> str:
    """Return the id under which the log speaks of somebody: no email and no name."""
    return str(who.pk) if isinstance(who, User) else who or ""
