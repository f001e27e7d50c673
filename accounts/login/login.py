"""A login: a mailed code or link, or the password if the account has a second factor; then the second factors."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from django.db.models import F
from django.utils import timezone

from accounts.factors.factor import spend_recovery_code
from accounts.factors.hardware_wallet import new_challenge
from accounts.factors.table import factors_of
from accounts.factors.totp import TOTP
from accounts.lockouts import WRONG_GUESS, account, charged, lift_account, second_factor, this_address
from accounts.login import challenges
from accounts.login.break_glass import charged_even_without_redis
from accounts.login.equal_time import in_equal_time
from accounts.login.passwords import check_password
from accounts.mail import send_login
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.locked import account_locked
from lucid_gateway.audit.events import BLOCKED, FAILURE, record
from lucid_gateway.kernel.after_response import after_response
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.secrets.digests import keyed_hash
from lucid_gateway.policy.errors import (
    CodeExpired,
    CodeInvalid,
    GatewayError,
    SecondFactorNeeded,
    TooManyAttempts,
    Unauthenticated,
    WalletSignatureInvalid,
    WrongCredentials,
)

MESSAGE = "If the address has an account, a code is on its way."


@dataclass(frozen=True)
class Credentials:
    """What finishes a login: one of `code`, `token` (of the link) and `password`, and the second factors."""

    email: str
    code: str | None = None
    token: str | None = None
    password: str | None = None
    totp: str | None = None
    recovery_code: str | None = None
    signature: str | None = None

    def missing(self, user: User) -> list[str]:
        """Return the second factors that the account needs and that are not given."""
        if self.recovery_code is not None:
            return []
        return sorted(factor.name for factor in factors_of(user) if getattr(self, factor.name) is None)


@in_equal_time
def start_login(*, email: str, password: str | None = None, hardware_wallet: bool = False) -> dict[str, object]:
    """Start a login and mail its code and link; return the answer, which is the same for every email.

    An unknown or locked account gets a login that nobody can finish: neither the answer nor the work for it reveals
    which emails have an account. The password is optional; with a wrong one no mail is sent, and the owner's own login
    stays as it is. Raises TooManyAttempts.
    """
    user = User.objects.active_user(email=email)
    may_start = password is None or is_right_password(email, user, password)
    recipient = user if user and may_start and not user.is_locked else None
    code, token = f"{secrets.randbelow(10**6):06d}", secrets.token_urlsafe(32)
    challenge = new_challenge("Log in")
    stored_code = code if recipient else secrets.token_hex(32)
    stored_token = token if recipient else secrets.token_hex(32)
    challenges.start(email, code=stored_code, token=stored_token, wallet_challenge=challenge, decoy=not may_start)
    send_login(recipient, code=code, token=token, minutes=challenges.LIFETIME_SECONDS // 60)
    answer: dict[str, object] = {"message": MESSAGE, "expires_in": challenges.LIFETIME_SECONDS}
    return answer | ({"challenge": challenge} if hardware_wallet else {})


def is_right_password(email: str, user: User | None, password: str) -> bool:
    """Return whether it is the user's password; a wrong one counts as a guess. Raises TooManyAttempts."""
    try:
        with (
            recording_failures(Credentials(email, password=password)),
            charged(account(email), this_address(), forgive=False),
        ):
            if not check_password(user, password):
                raise WrongCredentials()
    except WrongCredentials:
        return False
    return True


@in_equal_time
def finish_login(credentials: Credentials) -> tuple[User, TokenPair]:
    """Finish a login; return the user and new tokens.

    Raises CodeInvalid, CodeExpired, WalletSignatureInvalid, WrongCredentials, SecondFactorNeeded, AccountLocked or
    TooManyAttempts.
    """
    with recording_failures(credentials):
        user = prove_by_mail(credentials) if credentials.password is None else prove_by_password(credentials)
        if user.is_locked:
            raise account_locked(user)
    user.last_login, user.login_attempts = timezone.now(), 0
    user.email_verified = user.email_verified or credentials.password is None
    noted = {name: getattr(user, name) for name in ("last_login", "login_attempts", "email_verified")}
    if not User.objects.filter(pk=user.pk, is_active=True).update(**noted):
        raise CodeExpired()  # the account was deleted meanwhile
    pair = issue_tokens(user)
    record("login.succeeded", subject=user, method=method_of(credentials))
    return user, pair


@in_equal_time
def log_in_staff(credentials: Credentials) -> User:
    """Return the staff member with this password and, if the account has any, these second factors.

    The operator pages share the lockouts of the API. While Redis is down, only a super admin with a TOTP code gets in,
    and this process limits the attempts. Raises WrongCredentials, AccountLocked, TooManyAttempts or RedisUnavailable.
    """
    guessable, has_code = (account(credentials.email), this_address()), credentials.totp is not None
    with recording_failures(credentials):
        with charged_even_without_redis(credentials.email, *guessable, fallback=has_code) as without_redis:
            user = user_with_password(credentials, password_suffices=not without_redis)
        if user.is_locked:
            raise account_locked(user)
        if not user.is_staff or (without_redis and not (user.is_superuser and TOTP.is_on(user))):
            raise WrongCredentials()
    break_glass: dict[str, Any] = {"break_glass": True} if without_redis else {}
    record("admin.login", subject=user, method=method_of(credentials), **break_glass)
    return user


def prove_by_mail(credentials: Credentials) -> User:
    """Return the user with this code or link and these second factors. A link is never locked out."""
    proof = challenges.Proof("link", credentials.token or "")
    if credentials.code:
        proof = challenges.Proof("code", credentials.code)
    guessable = (account(credentials.email), this_address()) if proof.kind == "code" else ()
    with charged(*guessable):
        guess = challenges.Guess(credentials.email, proof)
        with refunded_unless_wrong(guess):
            user = User.objects.active_user(email=credentials.email)
            if user is None:
                raise CodeExpired()
            if missing := credentials.missing(user):
                signable = {"challenge": guess.wallet_challenge} if "signature" in missing else {}
                raise SecondFactorNeeded(details={"required": missing, **signable})
            prove_second_factors_after_mail(user, credentials, guess)
            guess.use()
    if proof.kind == "link":
        # Only the owner gets this far: the failures of others no longer count.
        lift_account(credentials.email)
    return user


def prove_second_factors_after_mail(user: User, credentials: Credentials, guess: challenges.Guess) -> None:
    """Check the second factors. Guesses after a link are counted apart; recovery codes, which nobody can guess, are not
    counted.
    """
    countable = guess.kind == "link" and factors_of(user) and credentials.recovery_code is None
    with charged(*([second_factor(user.email)] if countable else [])):
        prove_second_factors(user, credentials, guess.wallet_challenge)


@contextmanager
def refunded_unless_wrong(guess: challenges.Guess) -> Iterator[None]:
    """Refund the guess if the block raises anything but a wrong second factor."""
    try:
        yield
    except WRONG_GUESS:
        raise
    except BaseException:
        with suppress(RedisUnavailable):
            guess.refund()
        raise


def prove_by_password(credentials: Credentials) -> User:
    """Return the user with this password and these second factors; raise WrongCredentials or TooManyAttempts."""
    with charged(account(credentials.email), this_address()):
        return user_with_password(credentials)


def user_with_password(credentials: Credentials, *, password_suffices: bool = False) -> User:
    """Return the user with this password and these second factors, without counting the attempt.

    An account without a second factor is refused, unless `password_suffices`. Raises WrongCredentials, whatever is
    wrong.
    """
    user = User.objects.active_user(email=credentials.email)
    right = check_password(user, credentials.password or "")
    if user is None or not right or credentials.missing(user) or not (password_suffices or factors_of(user)):
        raise WrongCredentials()
    signs = any(factor.signs for factor in factors_of(user)) and credentials.recovery_code is None
    try:
        prove_second_factors(user, credentials, challenges.take_wallet_challenge(user.email) if signs else "")
    except (CodeInvalid, WalletSignatureInvalid) as error:
        raise WrongCredentials() from error
    return user


def prove_second_factors(user: User, credentials: Credentials, wallet_challenge: str) -> None:
    """Check the second factors of the account; a recovery code replaces all of them.

    Raises CodeInvalid or WalletSignatureInvalid.
    """
    factors = factors_of(user)
    if factors and credentials.recovery_code is not None:
        spend_recovery_code(user, credentials.recovery_code)
        return
    for factor in factors:
        if not factor.prove(user, getattr(credentials, factor.name) or "", wallet_challenge):
            raise factor.wrong_proof()


def method_of(credentials: Credentials) -> str:
    """Return the names of the credentials, such as `code+totp`."""
    names = ("code", "token", "password", "totp", "recovery_code", "signature")
    return "+".join(name for name in names if getattr(credentials, name) is not None)


@contextmanager
def recording_failures(credentials: Credentials) -> Iterator[None]:
    """Record a failed or blocked login; known and unknown emails cost the same work."""
    try:
        yield
    except SecondFactorNeeded:
        raise
    except (Unauthenticated, TooManyAttempts) as error:
        record_failure(credentials, error)
        raise


def record_failure(credentials: Credentials, error: GatewayError) -> None:
    """Record a failed or blocked login; the email appears as a hash."""
    known = User.objects.filter(email=credentials.email)
    subject = str(known.values_list("pk", flat=True).first() or "")
    blocked = isinstance(error, TooManyAttempts)
    if not blocked:
        # After the answer: only an existing account needs this write, which would show in the time.
        after_response(lambda: known.update(login_attempts=F("login_attempts") + 1))
    record(
        "login.blocked" if blocked else "login.failed",
        subject=subject, outcome=BLOCKED if blocked else FAILURE, method=method_of(credentials), code=error.code,
        email_hash=keyed_hash("email", credentials.email)[:16],
    )  # fmt: skip
