"""A user's own profile: names at once, the email once the new address has confirmed it; and its end."""

import secrets
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from accounts import mail_links
from accounts.audit import record
from accounts.mail import send_email_confirmation, send_notice
from accounts.models import ApiKey, AuditEvent, User
from accounts.registration import refuse_taken
from accounts.revocation import revoke_api_keys
from accounts.tokens import end_all
from lucid_gateway.errors import AlreadyExists

EMAIL = "email"
EMAIL_LIFETIME_SECONDS = 86_400


def update_profile(user: User, *, email: str | None = None, **fields: str) -> User:
    """Change username and names, and mail a link to a new address, which counts once it is confirmed.

    Raises AlreadyExists with nothing changed, TooManyAttempts.
    """
    refuse_taken(email if email != user.email else None, fields.get("username"), but=user)
    changed = {name: value for name, value in fields.items() if getattr(user, name) != value}
    for name, value in changed.items():
        setattr(user, name, value)
    if changed:
        save_unique(user, [*changed, "updated_at"])
        record("user.updated", subject=user, fields=sorted(changed))
    if email and email != user.email:
        token = mail_links.create(EMAIL, email, user=user, counted=str(user.pk), lifetime=EMAIL_LIFETIME_SECONDS)
        send_email_confirmation(user, email, token=token, hours=EMAIL_LIFETIME_SECONDS // 3600)
    return user


def save_unique(user: User, fields: list[str]) -> None:
    """Save the fields; raise AlreadyExists if another request took what is unique."""
    try:
        user.save(update_fields=fields)
    except IntegrityError as error:
        raise AlreadyExists() from error


def confirm_email(*, token: str) -> User:
    """Make the confirmed address the account's; the old one is told. Raises CodeExpired, AlreadyExists."""
    link = mail_links.look_up(EMAIL, token)
    refuse_taken(link.email, None, but=link.user)
    mail_links.use(link)
    user, before = link.user, link.user.email
    user.email, user.email_verified = link.email, True
    save_unique(user, ["email", "email_verified", "updated_at"])
    record("user.email_changed", subject=user)
    send_notice(user, f"The email address of your account is now {user.email}.", to=before)
    return user


def delete_account(user: User, *, by: User | str | None = None) -> None:
    """Delete a user's personal data and end all that was issued. A nameless row stays, so that tokens that live on
    find that their user is gone; what the audit log says stays under the id alone.
    """
    former, gone = user.email, f"deleted-{user.pk.hex}"
    name = user.username
    blank: dict[str, Any] = {
        "email": f"{gone}@deleted.invalid", "username": gone, "first_name": "", "last_name": "", "is_active": False,
        "password": f"!{secrets.token_urlsafe(30)}", "email_verified": False, "totp_enabled": False, "totp_secret": "",
        "hardware_wallet_enabled": False, "hardware_wallet_address": "", "lock_reason": "", "locked_by": "",
        "last_login": None, "deleted_at": timezone.now(),
    }  # fmt: skip
    User.objects.filter(pk=user.pk).update(**blank)
    end_all(user)
    revoke_api_keys(ApiKey.objects.owned_by(user.pk))
    user.api_keys.update(name="")
    user.recovery_codes.all().delete()
    user.issued_tokens.update(address="", user_agent="")
    AuditEvent.objects.all().forget_person(user.pk)
    record("user.deleted", subject=user, actor=by)
    send_notice(User(email=former, username=name), "Your account and your personal data were deleted.")
