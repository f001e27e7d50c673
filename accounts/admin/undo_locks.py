"""Undoes what an operator did to the locks of accounts."""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from accounts.models import User
from accounts.users.locks import lock_of, restore_lock
from accounts.users.staff import may_manage
from lucid_gateway.operators import undo
from lucid_gateway.operators.confirmation import operator_of

RESTORER = "locks"


def change_locks(
    request: HttpRequest, users: Sequence[User], change: Callable[[User], None], done: str, *, dangerous: bool
) -> None:
    """Lock or unlock each user with `change`, and show the message `done` with a button that undoes it."""
    state = []
    for user in users:
        before = lock_of(user)
        change(user)
        state.append({"user_id": str(user.pk), "before": before, "after": lock_of(user)})
    if state:
        undo.offer(request, done, RESTORER, state, dangerous=dangerous)
    else:
        messages.success(request, done)


@undo.restores(RESTORER)
def restore_locks(request: HttpRequest, state: list[dict[str, Any]]) -> str:
    """Restore the locks that nobody has changed since; the words name the accounts whose locks stay as they are."""
    operator = operator_of(request)
    users = User.objects.in_bulk([uuid.UUID(change["user_id"]) for change in state])
    problems = []
    for change in state:
        user = users.get(uuid.UUID(change["user_id"]))
        if user is None or user.pk == operator.pk or not may_manage(operator.role, operator.pk, user):
            problems.append("you may not change one of the accounts")
        elif not restore_lock(user, before=change["before"], after=change["after"], by=operator):
            problems.append(f"somebody has changed the lock of {user.email} since")
    return undo.summary(len(state), problems, "user", " Sessions that had ended stay ended.")
