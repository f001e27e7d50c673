"""What the page of one session shows."""

from typing import Any

from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import counted, size
from sessions_api.admin.chunk_table import Gaps, gaps_of, table_of
from sessions_api.admin.shapes import as_json
from sessions_api.models import Session

Status = Session.Status
MAX_NAMED = 10
# The part of the path of an upload that follows the session's id.
UPLOADS = "/api/v1/sessions/{}/chunks"


def facts_of(session: Session, start: int) -> dict[str, Any]:
    """Return the context of the page, whose table begins at the index `start`."""
    gaps = gaps_of(session)
    unfinished = list(session.chunks.uploading().order_by("index").values_list("index", flat=True)[: MAX_NAMED + 1])
    tone, words = state_of(session, gaps)
    return {
        "tone": tone,
        "words": words,
        "notes": [*notes_on(gaps), *note_on_unfinished(unfinished)],
        "gaps": gaps,
        "table": table_of(session, start),
        "policy": session.trust_policy,
        "metadata": as_json(session.metadata),
        "used_percent": min(100, 100 * session.reserved_bytes // session.max_size_bytes)
        if session.max_size_bytes
        else 0,
        "uploads": uploads_of(session),
    }


def uploads_of(session: Session) -> str:
    """Return the address of the list of the kept requests that uploaded chunks."""
    return page("requests", path=UPLOADS.format(session.pk))


def state_of(session: Session, gaps: Gaps) -> tuple[str, str]:
    """Return the tone of the state and a sentence about it."""
    recorded = f"{counted(session.chunk_count, 'chunk')}, {size(session.size_bytes)}"
    if session.is_deleted:
        return "bad", "This session is being deleted: the session-management cluster still holds some of its data."
    if session.status == Status.ACTIVE:
        return "ok", f"Recording: {recorded} so far. The session accepts uploads."
    if session.status != Status.COMPLETED:
        ended = "has failed" if session.status == Status.FAILED else "was cancelled"
        return "bad", f"The session {ended}, with {recorded}. It accepts no uploads."
    if session.manifest_id:
        return "ok", f"Completed with {recorded}. A manifest proves which chunks it has."
    if gaps.missing:
        return "warn", f"Completed with {recorded}. It can have no manifest, because chunks are missing."
    if not session.chunk_count:
        return "warn", "Completed without a chunk. It can have no manifest."
    return "ok", f"Completed with {recorded}. No chunk is missing; its owner has not made a manifest."


def notes_on(gaps: Gaps) -> list[str]:
    """Return the sentences about missing chunks."""
    if not gaps.missing:
        return []
    missing = f"{counted(gaps.missing, 'chunk')} {'is' if gaps.missing == 1 else 'are'} missing"
    if not gaps.ranges:
        return [f"{missing}. The table shows where."]
    return [f"{missing}: index {', '.join(map(str, gaps.ranges))}{' and more' if has_more(gaps) else ''}."]


def has_more(gaps: Gaps) -> bool:
    return sum(each.last - each.first + 1 for each in gaps.ranges) < gaps.missing


def note_on_unfinished(indexes: list[int]) -> list[str]:
    """Return a sentence about uploads that are in progress or broke off."""
    if not indexes:
        return []
    named = ", ".join(f"{index:,}" for index in indexes[:MAX_NAMED])
    return [f"Not recorded yet: index {named}{' and more' if len(indexes) > MAX_NAMED else ''}."]


def start_of(text: str) -> int:
    """Return the index at which the table begins; an invalid text begins at the start."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 7 else 0
