"""A new password: by a mailed link, for users who forgot the old one, or with the old one."""

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils import timezone
from rest_framework.serializers import ValidationError

from accounts.lockouts import account, charged, this_address
from accounts.login import mail_links
from accounts.login.equal_time import in_equal_time
from accounts.login.passwords import check_password, hash_password
from accounts.mail import send_notice, send_password_reset
from accounts.models import User
from accounts.tokens.issuing import TokenPair, end_all, issue_tokens
from accounts.tokens.locked import account_locked
from lucid_gateway.audit.events import record
from lucid_gateway.policy.errors import CodeExpired, Unauthenticated, WrongCredentials

PURPOSE = "password"
LIFETIME_SECONDS = 1800
MESSAGE = "If the address has an account, a link is on its way."


@in_equal_time
def start_reset(*, email: str) -> dict[str, object]:
    """Mail a link that sets a new password; return the answer, the same for every email. Raises TooManyAttempts."""
    user = User.objects.active_user(email=email)
    recipient = user if user and not user.is_locked else None
    token = mail_links.create(PURPOSE, email, user=recipient, counted=email, lifetime=LIFETIME_SECONDS)
    send_password_reset(recipient, token=token, minutes=LIFETIME_SECONDS // 60)
    return {"message": MESSAGE, "expires_in": LIFETIME_SECONDS}


def confirm_reset(*, token: str, password: str) -> None:
    """Set the password and end all tokens; raise CodeExpired if the link has expired or was used, ValidationError."""
    link = mail_links.look_up(PURPOSE, token)
    if link.email != link.user.email:
        raise CodeExpired()  # the account has another address by now
    refuse_weak(password, link.user)
    mail_links.use(link)
    set_password(link.user, password)
    record("user.password_reset", subject=link.user)


def change_password(user: User, *, current_password: str, password: str) -> TokenPair:
    """Set a new password, end all tokens, return new ones; raise WrongCredentials, TooManyAttempts, ValidationError."""
    refuse_weak(password, user)
    prove_password(user, current_password)
    set_password(user, password)
    record("user.password_changed", subject=user)
    # Hashing takes time: the account may have been deleted or locked meanwhile.
    now = User.objects.active_user(pk=user.pk)
    if now is None:
        raise Unauthenticated()
    if now.is_locked:
        raise account_locked(now)
    return issue_tokens(now)


def prove_password(user: User, password: str) -> None:
    """Raise WrongCredentials if it is not the password, TooManyAttempts during a lockout."""
    with charged(account(user.email), this_address(), forgive=False):
        if not check_password(user, password):
            raise WrongCredentials()


def refuse_weak(password: str, user: User) -> None:
    """Raise ValidationError if the password breaks a rule."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        raise ValidationError({"password": error.messages}, code="weak_password") from error


def set_password(user: User, password: str) -> None:
    """Store the password, end all tokens, and tell the owner."""
    user.password = hash_password(password)
    # An account that was deleted meanwhile gets no password.
    if not User.objects.filter(pk=user.pk, is_active=True).update(password=user.password, updated_at=timezone.now()):
        raise Unauthenticated()
    end_all(user)
    send_notice(user, f"The password was changed on {timezone.now():%Y-%m-%d at %H:%M} UTC.")
