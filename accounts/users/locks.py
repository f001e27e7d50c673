"""Staff locks, which stop a user's tokens, API keys and admin sessions immediately."""

from datetime import UTC, datetime

from django.utils import timezone

from accounts.lockouts import lift_account
from accounts.models import IssuedToken, User
from accounts.tokens.revocation.revoking import lock, publish_unlock, revoke
from accounts.users.staff import OwnAccount, is_own
from lucid_gateway.audit.events import record

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


def lock_user(user: User, *, reason: str, by: User | str, until: datetime = FOREVER) -> None:
    """Lock the account until the given time: tokens, API keys and admin sessions stop with their next request.

    Raises OwnAccount.
    """
    if is_own(user, by):
        raise OwnAccount()
    lock(user, until=until, lock_reason=reason, locked_by=str(by), updated_at=timezone.now())
    revoke(IssuedToken.objects.filter(user=user))
    ends = None if until == FOREVER else until.isoformat()
    record("user.locked", subject=user, actor=by, reason=reason, until=ends)


def unlock_user(user: User, *, by: User | str) -> None:
    """Unlock the account: the user may log in again, automatic lockouts end, and API keys work again."""
    user.locked_until, user.lock_reason, user.locked_by = None, "", ""
    user.save(update_fields=["locked_until", "lock_reason", "locked_by", "updated_at"])
    publish_unlock(user)
    lift_account(user.email)
    record("user.unlocked", subject=user, actor=by)
