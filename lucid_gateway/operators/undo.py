"""Undo: for ten minutes, an operator can restore what an action has changed.

An action calls `offer` with the state that its `Restorer` needs. The session keeps the state in a signed token, and the
message about the action gets a button. The restorer checks again who may do this, and refuses if the state has changed
meanwhile.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.messages.storage.base import Message
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from lucid_gateway.operators.back import BACK, back_of
from lucid_gateway.operators.confirmation import CONFIRMED, Question, answer_to
from lucid_gateway.operators.identity import has_recent_proof
from lucid_gateway.operators.numbers import counted

UNDO_FOR = timedelta(minutes=10)
SESSION_KEY = "undo"
SALT = "undo-2"  # another name for each shape of what is signed
MARK = "undo:"  # begins the extra tags of a message with a button
MAX_KEPT = 10
TOO_LATE = "This cannot be undone any more: ten minutes have passed, or it was undone already."
# Gets the request and the state; returns what it did in words, and raises CannotUndo.
Restorer = Callable[[HttpRequest, Any], str]
restorers: dict[str, Restorer] = {}


class CannotUndo(Exception):
    """The former state cannot be restored; the text says why."""


@dataclass(frozen=True)
class Undo:
    """What can be undone: `text` is what was done at that time, in words. A `dangerous` undo needs a recent proof."""

    key: str
    text: str
    restorer: str
    state: Any
    done_at: datetime
    dangerous: bool = False

    @property
    def ends_at(self) -> datetime:
        return self.done_at + UNDO_FOR


def restores(name: str) -> Callable[[Restorer], Restorer]:
    """Register the decorated function as the restorer of this name."""

    def register(restorer: Restorer) -> Restorer:
        restorers[name] = restorer
        return restorer

    return register


def offer(request: HttpRequest, text: str, restorer: str, state: Any, *, dangerous: bool = False) -> None:
    """Show the text as a message with an "Undo" button. `state` is JSON without secrets.

    An undo is `dangerous` if the action was: it changes as much back.
    """
    key = secrets.token_urlsafe(9)
    kept = {undo.key: request.session[SESSION_KEY][undo.key] for undo in pending(request)[: MAX_KEPT - 1]}
    now = datetime.now(UTC).timestamp()
    token = signing.dumps([text, restorer, state, dangerous, now], salt=SALT, compress=True)
    request.session[SESSION_KEY] = kept | {key: token}
    messages.success(request, text, extra_tags=f"{MARK}{key}")


def key_of(message: Message | str) -> str:
    """Return the key of what the message's button undoes, or "" for a message without one."""
    tags = getattr(message, "extra_tags", "") or ""
    return tags.removeprefix(MARK) if tags.startswith(MARK) else ""


def pending(request: HttpRequest) -> list[Undo]:
    """Return what the operator can still undo, the newest first."""
    kept = request.session.get(SESSION_KEY, {})
    found = [undo for key, token in kept.items() if (undo := read(key, token)) is not None]
    return sorted(found, key=lambda undo: undo.done_at, reverse=True)


def read(key: str, token: str) -> Undo | None:
    """Return what the token says, or None if it has expired or is not ours."""
    try:
        text, restorer, state, dangerous, done_at = signing.loads(token, salt=SALT, max_age=UNDO_FOR)
    except signing.BadSignature:
        return None
    return Undo(key, text, restorer, state, datetime.fromtimestamp(done_at, UTC), dangerous)


def take(request: HttpRequest, key: str) -> Undo | None:
    """Return what the key undoes and forget it, so that it works once; None if nothing can be undone."""
    kept = request.session.get(SESSION_KEY, {})
    token = kept.pop(key, None)
    if token is None:
        return None
    request.session[SESSION_KEY] = kept
    return read(key, token)


def summary(count: int, problems: Sequence[str], noun: str, more: str = "") -> str:
    """Return what an undo of several changes did, in words; raise CannotUndo if each had a problem."""
    listed = "; ".join(problems[:3]) + (f"; and {len(problems) - 3:,} more" if len(problems) > 3 else "")
    if len(problems) == count:
        raise CannotUndo(f"Nothing was undone: {listed}.")
    words = f"{counted(count - len(problems), noun)}: undone.{more}"
    return f"{words} The rest stays as it is: {listed}." if problems else words


def page(site: admin.AdminSite, request: HttpRequest) -> HttpResponse:
    """Show what the operator can undo, or undo what was sent and return to the page that sent it."""
    if request.method != "POST":
        context = {**site.each_context(request), "title": "Undo recent changes", "undos": pending(request)}
        return TemplateResponse(request, "admin/undo.html", context)
    key = request.POST.get("undo", "")
    if (asked := question_about(site, request, key)) is not None:
        return asked
    undo = take(request, key)
    try:
        if undo is None:
            raise CannotUndo(TOO_LATE)
        messages.success(request, restorers[undo.restorer](request, undo.state))
    except CannotUndo as error:
        messages.error(request, str(error))
    return HttpResponseRedirect(back_of(request) or reverse("admin:index"))


def question_about(site: admin.AdminSite, request: HttpRequest, key: str) -> HttpResponse | None:
    """Return the page that asks for a proof before a dangerous undo, or None if the undo may go on."""
    token = request.session.get(SESSION_KEY, {}).get(key)
    undo = read(key, token) if token else None
    if undo is None or not undo.dangerous or has_recent_proof(request):
        return None
    question = Question("Undo the change", f"This undoes: {undo.text}", dangerous=True)
    data, filled = answer_to(site, request, question)
    if data is not None:
        return None
    context = {
        **site.each_context(request),
        "title": question.title,
        "warning": question.warning,
        "dangerous": True,
        "form": filled,
        "back": back_of(request) or request.path,
        "carried": [("undo", key), (BACK, back_of(request))],
        "confirmed": CONFIRMED,
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)
