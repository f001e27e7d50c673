"""The error for a locked account."""

from accounts.models import User
from lucid_gateway.kernel.record import note_claim, note_fact
from lucid_gateway.policy.errors import AccountLocked


def account_locked(user: User) -> AccountLocked:
    """Return the error for the user, and note who locked the account, why and until when, for staff only."""
    until = user.locked_until.isoformat() if user.locked_until else None
    note_fact(locked_by=user.locked_by, lock_reason=user.lock_reason, locked_until=until)
    note_claim("login", "", user.pk, user.role)
    return AccountLocked()
