"""Who may read the recordings of other users."""

import uuid

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import InsufficientPermissions


def may_read_all(caller: Caller) -> bool:
    """Return whether the caller may read everything: staff, or a staff member's API key with `admin:read`."""
    return caller.is_staff and "admin:read" in caller.permissions


def readable_user_id(caller: Caller, user_id: uuid.UUID | None) -> str:
    """Return the requested user id, by default the caller's; raise InsufficientPermissions if the caller may not read
    that user's rows.
    """
    if user_id is None or str(user_id) == caller.user_id:
        return caller.user_id
    if not may_read_all(caller):
        raise InsufficientPermissions("Only staff may read what other users recorded")
    return str(user_id)
