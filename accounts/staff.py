"""What staff do to accounts beside locking them: roles, sessions, second factors. And whom they may touch."""

from accounts.factors.table import FACTORS, factors_of
from accounts.factors.totp import TOTP
from accounts.models import User
from accounts.tokens.issuing import end_all
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import InsufficientPermissions, OperationNotAllowed
from lucid_gateway.policy.roles import STAFF, Role


def may_manage(operator_role: str, operator_id: object, user: User) -> bool:
    """Return whether staff of that role may act on the user: an admin looks after users, and other staff is for super
    admins, because whose email one sets, their code one gets.
    """
    return operator_role == Role.SUPER_ADMIN or user.role not in STAFF or str(user.pk) == str(operator_id)


class OwnAccount(OperationNotAllowed):
    """Staff tried to shut themselves out: the last one to do so would leave nobody who could undo it."""

    status, text = 409, "Staff cannot lock or delete their own account; another operator can"


def is_own(user: User, by: User | str) -> bool:
    """Return whether the one who acts (a user or a user's id) is the user."""
    return str(by.pk if isinstance(by, User) else by) == str(user.pk)


def change_role(user: User, role: Role, *, by: User | str) -> None:
    """Give the user a role; tokens that still say otherwise end. Raises InsufficientPermissions for one's own."""
    if is_own(user, by):
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
    """Switch TOTP and wallet off for somebody who lost both and the recovery codes; the mailed code is left.

    Each factor that was on is an event of its own. Without any it is `totp.reset`: the tokens end all the same.
    """
    were_on = factors_of(user) or (TOTP,)
    for factor in FACTORS:
        factor.reset(user)
    user.save(update_fields=[*(column for factor in FACTORS for column in factor.without), "updated_at"])
    user.recovery_codes.all().delete()
    end_all(user)
    for factor in were_on:
        record(f"{factor.kind}.reset", subject=user, actor=by)
