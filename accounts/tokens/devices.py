"""Signed-in devices: each is a token family with a refresh token that still works."""

import uuid

from accounts.models import IssuedToken, IssuedTokenQuerySet, User
from accounts.tokens.issuing import end_family
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import NotFound


def devices_of(user_id: str) -> IssuedTokenQuerySet:
    """Return the user's devices, the most recently used first."""
    return IssuedToken.objects.filter(user_id=user_id).sign_ins().order_by("-issued_at")


def devices_to_show(user_id: str) -> list[IssuedToken]:
    """Return each of the user's devices once."""
    return without_leftovers(list(devices_of(user_id)))


def without_leftovers(devices: list[IssuedToken]) -> list[IssuedToken]:
    """Return the devices without tokens that a failed refresh left behind."""
    unused = {token.jti for token in devices}
    return [token for token in devices if token.predecessor not in unused]


def end_device(user_id: str, family: uuid.UUID, *, by: User | str | None = None) -> None:
    """End a login of the user; raise NotFound if it is another user's or has ended."""
    if not devices_of(user_id).filter(family=family).exists():
        raise NotFound()
    ended = end_family(family)
    record("token.revoked", subject=user_id, actor=by, family=str(family), tokens=ended)
