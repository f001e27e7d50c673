"""Leaving a second factor: an access token alone does not suffice, or a stolen one would."""

from accounts.factors import hardware_wallet
from accounts.factors.recovery import use_recovery_code
from accounts.factors.totp import switch_off, use_code
from accounts.login.lockouts import signed_in
from accounts.login.login import charged
from accounts.models import User
from lucid_gateway.policy.errors import CodeInvalid, NotFound


def leave_totp(user: User, *, totp: str | None = None, recovery_code: str | None = None) -> None:
    """Switch TOTP off; raise NotFound if it is not on, CodeInvalid, TooManyAttempts."""
    if not user.totp_enabled:
        raise NotFound("TOTP is not enabled")
    if recovery_code is not None:
        spend_recovery_code(user, recovery_code)
    else:
        with charged(signed_in(user.pk)):
            if not use_code(user, totp or ""):
                raise CodeInvalid()
    switch_off(user)


def leave_wallet(user: User, *, recovery_code: str) -> None:
    """Forget the wallet; raise NotFound if there is none, CodeInvalid."""
    if not user.hardware_wallet_enabled:
        raise NotFound("No hardware wallet is registered")
    spend_recovery_code(user, recovery_code)
    hardware_wallet.remove(user)


def spend_recovery_code(user: User, code: str) -> None:
    """Use a recovery code up; raise CodeInvalid. There is no guessing one, so that nothing is counted."""
    if not use_recovery_code(user, code):
        raise CodeInvalid()
