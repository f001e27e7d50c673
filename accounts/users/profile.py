"""A user's own profile: updates, the confirmation of a new email address, and the deletion of the account."""

import secrets
from typing import Any

from django.contrib.admin.models import LogEntry
from django.db import IntegrityError
from django.utils import timezone
from rest_framework.serializers import ValidationError

from accounts.login import mail_links
from accounts.login.password_reset import prove_password
from accounts.mail import send_email_confirmation, send_notice
from accounts.models import ApiKey, User
from accounts.tokens.issuing import end_all
from accounts.tokens.revocation.revoking import revoke_api_keys
from accounts.users.registration import refuse_taken
from accounts.users.staff import OwnAccount, is_own
from lucid_gateway.audit.events import changed, record
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.errors import AlreadyExists, Unauthenticated
from lucid_gateway.policy.roles import STAFF

EMAIL = "email"
EMAIL_LIFETIME_SECONDS = 86_400


def update_profile(user: User, *, email: str | None = None, current_password: str | None = None, **fields: str) -> User:
    """Change username and names, and mail a link to a new address, which takes effect once it is confirmed.

    A new address requires the password; otherwise a stolen token would be enough to take over the account. Changes
    nothing if it raises AlreadyExists, ValidationError, WrongCredentials or TooManyAttempts.
    """
    refuse_taken(email if email != user.email else None, fields.get("username"), but=user)
    new_email = email if email and email != user.email else None
    token = ""
    if new_email:
        if current_password is None:
            raise ValidationError({"current_password": "A new email requires the current password."}, code="required")
        prove_password(user, current_password)
        token = mail_links.create(EMAIL, new_email, user=user, counted=str(user.pk), lifetime=EMAIL_LIFETIME_SECONDS)
    before = {name: getattr(user, name) for name in fields}
    new_values = {name: value for name, value in fields.items() if before[name] != value}
    for name, value in new_values.items():
        setattr(user, name, value)
    if new_values:
        save_unique(user, new_values)
        record("user.updated", subject=user, fields=sorted(new_values), changes=changed(before, new_values))
    if new_email:
        send_email_confirmation(user, new_email, token=token, hours=EMAIL_LIFETIME_SECONDS // 3600)
        text = f"Someone asked to change your email address to {new_email}. That mailbox must confirm the change."
        send_notice(user, text)
    return user


def save_unique(user: User, fields: dict[str, Any]) -> None:
    """Save the fields; raise AlreadyExists if another request took a unique value.

    Raises Unauthenticated if the account was deleted meanwhile: personal data must not return to its row.
    """
    user.updated_at = timezone.now()
    try:
        saved = User.objects.filter(pk=user.pk, is_active=True).update(**fields, updated_at=user.updated_at)
    except IntegrityError as error:
        raise AlreadyExists() from error
    if not saved:
        raise Unauthenticated()


def confirm_email(*, token: str) -> User:
    """Make the confirmed address the account's, and notify the old one. Raises CodeExpired or AlreadyExists."""
    link = mail_links.look_up(EMAIL, token)
    refuse_taken(link.email, None, but=link.user)
    mail_links.use(link)
    user, before = link.user, link.user.email
    user.email, user.email_verified = link.email, True
    save_unique(user, {"email": user.email, "email_verified": True})
    record("user.email_changed", subject=user, changes=changed({"email": before}, {"email": user.email}))
    send_notice(user, f"The email address of your account is now {user.email}.", to=before)
    return user


def delete_account(user: User, *, by: User | str | None = None) -> None:
    """Delete a user's personal data and end their tokens and API keys; `by` None means the user did it.

    A row without personal data stays, so that checks of leftover credentials see a deleted user. Audit events stay,
    with the user's id only. Raises OwnAccount for staff who delete themselves.
    """
    if user.role in STAFF and (by is None or is_own(user, by)):
        raise OwnAccount()
    former, username, placeholder = user.email, user.username, f"deleted-{secrets.token_hex(16)}"
    blank: dict[str, Any] = {
        "email": f"{placeholder}@deleted.invalid", "username": placeholder, "first_name": "", "last_name": "",
        "is_active": False, "password": f"!{secrets.token_urlsafe(30)}", "email_verified": False,
        "totp_enabled": False, "totp_secret": "", "hardware_wallet_enabled": False, "hardware_wallet_address": "",
        "lock_reason": "", "locked_by": "", "last_login": None, "deleted_at": timezone.now(),
    }  # fmt: skip
    User.objects.filter(pk=user.pk).update(**blank)
    end_all(user)
    revoke_api_keys(ApiKey.objects.owned_by(user.pk), whose=user.pk)
    user.api_keys.update(name="")
    user.recovery_codes.all().delete()
    user.idempotent_requests.all().delete()
    user.issued_tokens.update(address="", user_agent="")
    User.objects.filter(locked_by=former).update(locked_by=str(user.pk))
    LogEntry.objects.filter(object_id=str(user.pk)).update(object_repr=placeholder)  # of the operator pages
    record("user.deleted", subject=user, actor=by)
    AuditEvent.objects.forget_person(user.pk)
    send_notice(User(email=former, username=username), "Your account and your personal data were deleted.")
