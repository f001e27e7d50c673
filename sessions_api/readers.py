"""Who may read what others recorded."""

from accounts.callers import Caller


def reads_all(who: Caller) -> bool:
    """Return whether the caller is staff; an API key is if it may do what staff does."""
    return who.is_staff and "admin:read" in who.permissions
