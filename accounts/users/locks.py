"""Staff locks, which stop a user's tokens, API keys and admin sessions immediately."""

from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from accounts.lockouts import lift_account
from accounts.models import IssuedToken, User
from accounts.tokens.revocation.revoking import lock, publish_unlock, revoke
from accounts.users.staff import OwnAccount, is_own
from lucid_gateway.audit.events import Changes, changed, record

FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
LOCK_FIELDS = ("locked_until", "lock_reason", "locked_by")


def lock_user(user: User, *, reason: str, by: User | str, until: datetime = FOREVER) -> None:
    """Lock the account until the given time: tokens, API keys and admin sessions stop with their next request.

    Raises OwnAccount.
    """
    if is_own(user, by):
        raise OwnAccount()
    before = lock_of(user)
    lock(user, until=until, lock_reason=reason, locked_by=str(by), updated_at=timezone.now())
    revoke(IssuedToken.objects.filter(user=user), whose=user.pk)
    ends = None if until == FOREVER else until.isoformat()
    record(
        "user.locked", subject=user, actor=by, changes=lock_changes(before, lock_of(user)), reason=reason, until=ends
    )


def unlock_user(user: User, *, by: User | str) -> None:
    """Unlock the account: the user may log in again, automatic lockouts end, and API keys work again."""
    before = lock_of(user)
    user.locked_until, user.lock_reason, user.locked_by = None, "", ""
    user.save(update_fields=["locked_until", "lock_reason", "locked_by", "updated_at"])
    publish_unlock(user)
    lift_account(user.email)
    record("user.unlocked", subject=user, actor=by, changes=lock_changes(before, lock_of(user)))


def lock_of(user: User) -> dict[str, Any]:
    """Return the fields of the account's lock as JSON, as the database has them now."""
    fields: dict[str, Any] = User.objects.filter(pk=user.pk).values(*LOCK_FIELDS).get()
    return fields | {"locked_until": fields["locked_until"] and fields["locked_until"].isoformat()}


def restore_lock(user: User, *, before: dict[str, Any], after: dict[str, Any], by: User | str) -> bool:
    """Undo a change of the account's lock; return False, and change nothing, if the lock is no longer `after`.

    Tokens that a lock has ended stay ended, and lifted lockouts stay lifted.
    """
    then, now = lock_fields(before), lock_fields(after)
    if not User.objects.filter(pk=user.pk, deleted_at=None, **now).update(**then, updated_at=timezone.now()):
        return False
    user.refresh_from_db(fields=LOCK_FIELDS)
    if not user.is_locked:
        publish_unlock(user)
        record("user.unlocked", subject=user, actor=by, changes=lock_changes(after, before), undone=True)
        return True
    lock(user, until=then["locked_until"])
    revoke(IssuedToken.objects.filter(user=user), whose=user.pk)
    ends = None if user.locked_until == FOREVER else before["locked_until"]
    record(
        "user.locked", subject=user, actor=by, changes=lock_changes(after, before), reason=user.lock_reason, until=ends,
        undone=True,
    )  # fmt: skip
    return True


def lock_fields(state: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a state that `lock_of` returned."""
    until = state["locked_until"]
    return state | {"locked_until": datetime.fromisoformat(until) if until else None}


def lock_changes(before: dict[str, Any], after: dict[str, Any]) -> Changes:
    """Return what changed between two states that `lock_of` returned, without the operator who locked the account."""
    return changed(shown_lock(before), shown_lock(after))


def shown_lock(state: dict[str, Any]) -> dict[str, Any]:
    until = lock_fields(state)["locked_until"]
    if until is None or until <= timezone.now():
        return {"locked_until": None, "lock_reason": ""}
    return {"locked_until": "no end" if until == FOREVER else until, "lock_reason": state["lock_reason"]}
