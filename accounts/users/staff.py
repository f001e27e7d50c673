"""What staff may do to which accounts: edits, roles, sessions, second factors, lockouts. Locks: `users.locks`."""

from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from accounts import lockouts
from accounts.factors.table import FACTORS, factors_of
from accounts.factors.totp import TOTP
from accounts.login.login import start_login
from accounts.mail import send_notice
from accounts.models import User
from accounts.tokens.issuing import end_all
from lucid_gateway.audit.events import changed, record
from lucid_gateway.policy.errors import InsufficientPermissions, NotFound, OperationNotAllowed
from lucid_gateway.policy.roles import STAFF, Role


def may_manage(operator_role: str, operator_id: object, user: User) -> bool:
    """Return whether the operator may act on the user. Admins manage users; only super admins manage other staff.

    An admin who could set another operator's email address would receive that operator's login codes.
    """
    return operator_role == Role.SUPER_ADMIN or user.role not in STAFF or str(user.pk) == str(operator_id)


class OwnAccount(OperationNotAllowed):
    """Staff tried to lock or delete themselves. If the last operator did so, no one could undo it."""

    status, text = 409, "Staff cannot lock or delete their own account; another operator can"


def is_own(user: User, by: User | str) -> bool:
    """Return whether `by`, the operator or their id, is the user."""
    return str(by.pk if isinstance(by, User) else by) == str(user.pk)


def change_role(user: User, role: Role, *, by: User | str) -> None:
    """Change the role and end the tokens that carry the old one. Raises InsufficientPermissions for one's own role."""
    if is_own(user, by):
        raise InsufficientPermissions("Staff cannot change their own role")
    before, user.role = user.role, role
    user.save(update_fields=["role", "updated_at"])
    end_all(user)
    role_change = changed({"role": str(before)}, {"role": str(role)})
    record("user.role_changed", subject=user, actor=by, before=str(before), after=str(role), changes=role_change)


def end_sessions(user: User, *, by: User | str) -> int:
    """End all of the user's tokens; return how many were live."""
    ended = end_all(user)
    record("token.revoked", subject=user, actor=by, tokens=ended)
    return ended


def reset_second_factors(user: User, *, by: User | str) -> None:
    """Switch all second factors off for a user who lost them and the recovery codes, and end the user's tokens.

    Each factor that was on gets its own audit event. A user without factors gets `totp.reset`.
    """
    reset_factors = factors_of(user) or (TOTP,)
    changes = {factor: factor.reset(user) for factor in FACTORS}
    user.save(update_fields=[*(column for factor in FACTORS for column in factor.cleared_columns), "updated_at"])
    user.recovery_codes.all().delete()
    end_all(user)
    for factor in reset_factors:
        record(f"{factor.kind}.reset", subject=user, actor=by, changes=changes[factor])


def edit_account(user: User, *, by: User | str, before: Mapping[str, Any], reason: str = "") -> None:
    """Save an operator's changes to the user; `before` maps the names of the changed fields to their old values.

    A change of `role` or `is_active` ends the user's tokens, and the old email address gets a notice about a new one.
    Only changed fields are written, so a concurrent lock stays. Raises NotFound if the account was deleted.
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
        why: dict[str, Any] = {"reason": reason} if reason else {}
        changes = changed(before, {name: getattr(user, name) for name in others})
        record("user.updated", subject=user, actor=by, fields=others, changes=changes, **why)


def lift_lockouts(user: User, *, by: User | str) -> None:
    """Lift the automatic lockouts of the user; raise RedisUnavailable."""
    subjects = lockouts.subjects_of_user(user.pk, user.email)
    active = [lockout.subject.kind for lockout in lockouts.active_lockouts_of(subjects)]
    for subject in subjects:
        lockouts.lift(subject)
    record("lockout.lifted", subject=user, actor=by, changes=changed({"lockouts": active}, {"lockouts": []}))


def mail_login_link(user: User, *, by: User | str) -> None:
    """Mail the user a code and a link, as a login does. Raises TooManyAttempts, or NotFound for a locked user."""
    if not user.is_active or user.is_locked:
        raise NotFound()
    start_login(email=user.email)
    record("login.mailed", subject=user, actor=by)
