"""Who may read what others recorded."""

import uuid

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import InsufficientPermissions


def reads_all(who: Caller) -> bool:
    """Return whether the caller is staff; an API key is if it may do what staff does."""
    return who.is_staff and "admin:read" in who.permissions


def user_to_read(who: Caller, user_id: uuid.UUID | None) -> str:
    """Return whose rows are asked for, without a word the caller's own; raise InsufficientPermissions if they may not
    be read.
    """
    if user_id is None or str(user_id) == who.user_id:
        return who.user_id
    if not reads_all(who):
        raise InsufficientPermissions("What other users recorded is for staff")
    return str(user_id)
