"""What staff do to accounts beside locking them: roles, sessions, second factors. And whom they may touch."""

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from accounts import lockouts
from accounts.factors.table import FACTORS, factors_of
from accounts.factors.totp import TOTP
from accounts.mail import send_notice
from accounts.models import User
from accounts.tokens.issuing import end_all
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import InsufficientPermissions, NotFound, OperationNotAllowed
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
    user.save(update_fields=[*(column for factor in FACTORS for column in factor.cleared_columns), "updated_at"])
    user.recovery_codes.all().delete()
    end_all(user)
    for factor in were_on:
        record(f"{factor.kind}.reset", subject=user, actor=by)


def edit_account(user: User, *, by: User | str, before: Mapping[str, Any]) -> None:
    """Save what an operator has changed of the user: the fields of `before`, which has their earlier values.

    Another role or a deactivation ends the tokens that still say otherwise, and the earlier email address is told.
    Only these fields are written: a lock that was set meanwhile stays. Raises NotFound if the account was deleted.
    """
    role = Role(user.role)
    if "email" in before:
        user.email_verified = False
    values = {name: getattr(user, name) for name in (*(before.keys() - {"role"}), "email_verified")}
    if not User.objects.filter(pk=user.pk, deleted_at=None).update(**values, updated_at=timezone.now()):
        raise NotFound()
    if "role" in before:
        user.role = before["role"]
        change_role(user, role, by=by)
    if "is_active" in before:
        end_all(user)
    if "email" in before:
        text = f"The email address of your account is now {user.email}. An operator changed it."
        send_notice(user, text, to=before["email"])
    if others := sorted(before.keys() - {"role"}):
        record("user.updated", subject=user, actor=by, fields=others)


def lift_lockouts(user: User, *, by: User | str) -> None:
    """Lift the automatic lockouts of the user's account; raise RedisUnavailable."""
    for subject in (lockouts.account(user.email), lockouts.second_factor(user.email)):
        lockouts.lift(subject)
    record("lockout.lifted", subject=user, actor=by)
