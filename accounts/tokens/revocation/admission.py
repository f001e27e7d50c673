"""Letting a caller in: one round trip to Redis asks for revocation, lock, epoch and limit."""

from accounts.models import ApiKey, IssuedToken, User
from accounts.tokens.revocation.copy import copy, restore
from accounts.tokens.revocation.lookout import lookout
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import RedisCallFailed, RedisUnavailable
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import AccountLocked, TokenInvalid
from ratelimit.engine.limiter import Decision, GateClosed, KeyGate, admit, admit_locally
from ratelimit.engine.limits import RequestLimit

MARKER_GATE, LOCK_GATE, REVOKED_GATE, EPOCH_GATE = range(4)


class EpochOver(TokenInvalid):
    """A token from before the user's password or role changed, or before all of the user's logins were ended."""

    reason = "epoch_over"


def gates(caller: Caller, *, unlocked: bool = False) -> tuple[KeyGate, ...]:
    """Return what must be open: the copy is of this server's run, the account not locked (or known not to be), the
    token not revoked and of the current epoch.
    """
    return (
        KeyGate(keys.COPY_MARKER, None),
        KeyGate(keys.locked(caller.user_id), 1 if unlocked else 0),
        KeyGate(keys.revoked(caller.user_id, caller.jti), 0),
        KeyGate(keys.epoch(caller.user_id), caller.epoch),
    )


def admit_caller(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential and count the request in one round trip; raise TokenInvalid, AccountLocked or EpochOver.

    Without Redis, and until the copy is whole, the database is asked. Without Redis this process alone counts
    (DESIGN, section 5).
    """
    try:
        if copy.suspect and not restore():
            return admit_by_database(caller, tier)
        return admit_by_copy(caller, tier)
    except RedisUnavailable as error:
        if not isinstance(error, RedisCallFailed):
            copy.doubt()
        check_in_database(caller)
        return admit_locally(tier, caller.subject)


def admit_by_copy(caller: Caller, tier: RequestLimit, *, unlocked: bool = False, restored: bool = False) -> Decision:
    """Ask Redis, once it is known that no late revocation stands against the caller; the database if the copy is gone
    and cannot be restored at once.
    """
    doors = gates(caller, unlocked=unlocked)
    try:
        lookout.check(doors)
        return admit(tier, caller.subject, gates=doors)
    except GateClosed as error:
        closed = error.index
    if closed == LOCK_GATE:
        # The lock may have been lifted when Redis could not be told.
        refuse_locked(caller)
        lookout.forget(keys.locked(caller.user_id))
        return admit_by_copy(caller, tier, unlocked=True, restored=restored)
    if closed == REVOKED_GATE:
        raise TokenInvalid(reason="token_revoked")
    if closed == EPOCH_GATE:
        raise EpochOver()
    if restored or not restore():
        return admit_by_database(caller, tier)
    return admit_by_copy(caller, tier, unlocked=unlocked, restored=True)


def admit_by_database(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential in the database while the copy is built; Redis counts, as ever."""
    check_in_database(caller)
    return admit(tier, caller.subject)


def refuse_locked(caller: Caller) -> None:
    """Raise AccountLocked if the database says so, TokenInvalid if the user is gone."""
    user = User.objects.filter(pk=caller.user_id).first()
    if user is None or not user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if user.is_locked:
        raise AccountLocked()


def check_in_database(caller: Caller) -> None:
    """Raise TokenInvalid or AccountLocked by what the database says; a database error means nobody is let in."""
    known: ApiKey | IssuedToken | None
    if caller.by_api_key:
        known = ApiKey.objects.filter(key_id=caller.jti).select_related("user").first()
    else:
        known = IssuedToken.objects.filter(jti=caller.jti).select_related("user").first()
    if known is None:
        raise TokenInvalid(reason="token_revoked")
    if not known.user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if known.user.is_locked:
        raise AccountLocked()
    if known.revoked_at is not None:
        raise TokenInvalid(reason="token_revoked")
    if known.user.token_epoch > caller.epoch:
        raise EpochOver()
