"""What staff do to accounts beside locking them: roles, sessions, second factors. And whom they may touch."""

from accounts.audit import record
from accounts.models import User
from accounts.roles import STAFF, Role
from accounts.tokens import end_all
from lucid_gateway.errors import InsufficientPermissions


def may_manage(operator_role: str, operator_id: object, user: User) -> bool:
    """Return whether staff of that role may act on the user: an admin looks after users, and other staff is for super
    admins, because whose email one sets, their code one gets.
    """
    return operator_role == Role.SUPER_ADMIN or user.role not in STAFF or str(user.pk) == str(operator_id)


def change_role(user: User, role: Role, *, by: User | str) -> None:
    """Give the user a role; tokens that still say otherwise end. Raises InsufficientPermissions for one's own."""
    by_id = str(by.pk) if isinstance(by, User) else by
    if by_id == str(user.pk):
        raise InsufficientPermissions("Nobody changes their own role")
    before, user.role = user.role, role
    user.save(update_fields=["role", "updated_at"])
    end_all(user)
    record("user.role_changed", subject=user, actor=by, before=str(before), after=str(role))


def end_sessions(user: User, *, by: User | str) -> int:
    """End all of the user's tokens; return how many were live."""
    ended = end_all(user)
    record("token.revoked", subject=user, actor=by, tokens=ended)
    return ended


def reset_second_factors(user: User, *, by: User | str) -> None:
    """Switch TOTP and wallet off for somebody who lost both and the recovery codes; the mailed code is left."""
    user.totp_enabled = user.hardware_wallet_enabled = False
    user.totp_secret = user.hardware_wallet_address = ""
    fields = ["totp_enabled", "totp_secret", "hardware_wallet_enabled", "hardware_wallet_address", "updated_at"]
    user.save(update_fields=fields)
    user.recovery_codes.all().delete()
    end_all(user)
    record("totp.reset", subject=user, actor=by)
