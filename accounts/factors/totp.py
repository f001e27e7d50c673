"""Time-based one-time passwords (RFC 6238); the code of a time step works once."""

import hmac
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyotp
import segno

from accounts.factors.factor import SecondFactor
from accounts.factors.recovery import ensure_recovery_codes
from accounts.lockouts import charged, signed_in_user
from accounts.mail import send_notice
from accounts.models import User
from lucid_gateway.audit.events import Changes, record
from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt, encrypt
from lucid_gateway.policy.errors import AlreadyExists, CodeInvalid, ServiceUnavailable

logger = logging.getLogger(__name__)

STEP_SECONDS = 30
STEPS_OFF = (0, -1, 1)
ISSUER = "Lucid"


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator app needs: the secret in base32, as a URL, and as a QR code of that URL (SVG)."""

    secret: str
    otpauth_url: str
    qr_code: str

    def inline_qr_code(self) -> str:
        """Return the QR code as an SVG element, for pages whose policy allows no data URIs."""
        return str(segno.make(self.otpauth_url, error="m").svg_inline(omitsize=True, light="white", border=3))


def enrol(user: User) -> Enrolment:
    """Give the account a new secret, which takes effect when a code is confirmed; raise AlreadyExists."""
    secret = pyotp.random_base32()
    # Only while TOTP is off: a parallel enrolment must not replace a secret that was just confirmed.
    if not User.objects.filter(pk=user.pk, totp_enabled=False).update(totp_secret=encrypt(secret), totp_last_step=0):
        raise AlreadyExists("TOTP is already enabled")
    return enrolment_of(user, secret)


def enrolment_of(user: User, secret: str) -> Enrolment:
    url = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER)
    return Enrolment(secret, url, segno.make(url, error="m").svg_data_uri(scale=4))


def pending_enrolment(user: User) -> Enrolment | None:
    """Return the enrolment that waits for its first code, or None. Raises ServiceUnavailable like `secret_of`."""
    waits = user.totp_secret and not user.totp_enabled
    return enrolment_of(user, secret_of(user)) if waits else None


def confirm(user: User, code: str) -> list[str]:
    """Switch TOTP on with a first code; return new recovery codes if the account had none.

    Wrong codes count like other guesses of a signed-in user. Raises AlreadyExists, CodeInvalid or TooManyAttempts.
    """
    if user.totp_enabled:
        raise AlreadyExists("TOTP is already enabled")
    with charged(signed_in_user(user.pk)):
        if not use_code(user, code):
            raise CodeInvalid()
    confirmed = User.objects.filter(pk=user.pk, totp_enabled=False, totp_secret=user.totp_secret)
    if not confirmed.update(totp_enabled=True):
        raise CodeInvalid()
    record("totp.enabled", subject=user, changes={"totp_enabled": [False, True]})
    send_notice(user, "Logins need a code of an authenticator app from now on.")
    return ensure_recovery_codes(user)


def use_code(user: User, code: str) -> bool:
    """Return whether the code is right, and use up its time step. Of parallel uses one succeeds.

    Raises ServiceUnavailable if the secret cannot be decrypted.
    """
    if not user.totp_secret:
        return False
    step = matching_step(secret_of(user), code, int(time.time()))
    if step is None:
        return False
    return User.objects.filter(pk=user.pk, totp_last_step__lt=step).update(totp_last_step=step) == 1


def secret_of(user: User) -> str:
    """Return the user's secret; raise ServiceUnavailable if it was encrypted under an unknown SECRET_KEY."""
    try:
        return decrypt(user.totp_secret)
    except CannotDecrypt as error:
        logger.error("TOTP secret cannot be decrypted: SECRET_KEY has changed", extra={"user_id": str(user.pk)})  # noqa: TRY400
        raise ServiceUnavailable("Codes of the authenticator app cannot be checked; use a recovery code") from error


def use_up_current_codes() -> int:
    """Refuse the codes that are valid now, as any of them may have been used; return the number of accounts.

    The next code is valid half a minute later.
    """
    newest = int(time.time()) // STEP_SECONDS + max(STEPS_OFF)
    return User.objects.filter(totp_enabled=True, totp_last_step__lt=newest).update(totp_last_step=newest)


def matching_step(secret: str, code: str, now: int) -> int | None:
    """Return the time step of the code: this one or one beside it. None if the code belongs to neither."""
    totp = pyotp.TOTP(secret)
    steps = [now // STEP_SECONDS + off for off in STEPS_OFF]
    # All are compared, so that the time reveals nothing.
    fitting = [step for step in steps if hmac.compare_digest(totp.generate_otp(step), code)]
    return fitting[0] if fitting else None


class TotpFactor(SecondFactor):
    """Codes of an authenticator app."""

    name, kind, enabled = "totp", "totp", "totp_enabled"
    cleared_columns: ClassVar[Mapping[str, Any]] = {"totp_enabled": False, "totp_secret": ""}
    secret_columns = frozenset({"totp_secret"})
    wrong_proof, absent_message = CodeInvalid, "TOTP is not enabled"

    def enrol(self, user: User, **data: str) -> dict[str, Any]:
        """Return the new secret."""
        return vars(enrol(user))

    def confirm(self, user: User, proof: str) -> list[str]:
        """Switch TOTP on with a first code."""
        return confirm(user, proof)

    def prove(self, user: User, proof: str, challenge: str) -> bool:
        """Return whether the code is right."""
        return use_code(user, proof)

    def announce_removal(self, user: User, changes: Changes) -> None:
        record("totp.disabled", subject=user, changes=changes)
        send_notice(user, "Logins no longer need a code of an authenticator app.")


TOTP = TotpFactor()
