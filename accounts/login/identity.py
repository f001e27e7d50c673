"""The proof that a signed-in member of staff is still the one who signed in."""

import re

from accounts.factors.totp import TOTP
from accounts.lockouts import signed_in_user
from accounts.login.break_glass import charged_even_without_redis
from accounts.login.equal_time import in_equal_time
from accounts.login.password_reset import prove_password
from accounts.models import User
from lucid_gateway.policy.errors import CodeInvalid

TOTP_CODE = re.compile("[0-9]{6}")


@in_equal_time
def prove_identity(user: User, proof: str) -> None:
    """Check the proof: the user's password or, if they have an authenticator app, a code of it, which works once.

    Wrong passwords count like those of logins, and wrong codes like those of signed-in users. While Redis is down, only
    codes of super admins can be checked. Raises WrongCredentials, CodeInvalid, TooManyAttempts, ServiceUnavailable or
    RedisUnavailable.
    """
    if not (TOTP.is_on(user) and TOTP_CODE.fullmatch(proof)):
        prove_password(user, proof)
        return
    with charged_even_without_redis(user.email, signed_in_user(user.pk), fallback=user.is_superuser):
        if not TOTP.prove(user, proof, ""):
            raise CodeInvalid()
