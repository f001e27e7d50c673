"""Staff locks: they stop a user everywhere at once."""

from datetime import UTC, datetime

from accounts import revocation
from accounts.models import User

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


def lock_user(user: User, *, reason: str, by: str, until: datetime = FOREVER) -> None:
    """Lock the account until the given time; tokens already issued stop working with the next request."""
    user.locked_until, user.lock_reason, user.locked_by = until, reason, by
    user.save(update_fields=["locked_until", "lock_reason", "locked_by", "updated_at"])
    revocation.publish_lock(user)


def unlock_user(user: User) -> None:
    """Open the account again."""
    user.locked_until, user.lock_reason, user.locked_by = None, "", ""
    user.save(update_fields=["locked_until", "lock_reason", "locked_by", "updated_at"])
    revocation.publish_unlock(user)
