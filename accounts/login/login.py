"""The journey of a login: a mailed code or link, or the password where the account has a second factor; then the
second factors that the account asks for.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from django.db.models import F
from django.utils import timezone

from accounts.factors.factor import spend_recovery_code
from accounts.factors.hardware_wallet import new_challenge
from accounts.factors.table import factors_of
from accounts.login import challenges
from accounts.login.equal_time import in_equal_time
from accounts.login.lockouts import WRONG, account, charged, here, lift_account, second_factor
from accounts.login.mail import send_login
from accounts.login.passwords import check_password
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from lucid_gateway.audit.events import BLOCKED, FAILURE, record
from lucid_gateway.kernel.afterwards import afterwards
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.secrets.digests import keyed_hash
from lucid_gateway.policy.errors import (
    AccountLocked,
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
    """What is shown to finish a login: one of `code`, `token` (of the link) and `password`, and second factors."""

    email: str
    code: str | None = None
    token: str | None = None
    password: str | None = None
    totp: str | None = None
    recovery_code: str | None = None
    signature: str | None = None

    def missing(self, user: User) -> list[str]:
        """Return the second factors that the account asks for and that are not here."""
        if self.recovery_code is not None:
            return []
        return sorted(factor.name for factor in factors_of(user) if getattr(self, factor.name) is None)


@in_equal_time
def start_login(*, email: str, password: str | None = None, hardware_wallet: bool = False) -> dict[str, object]:
    """Start a login and mail its code and link; return the answer, which is the same for every address.

    Unknown and locked accounts get a login that nobody can finish, so that neither the answer nor the work done for it
    tells them apart. A password is not needed; a wrong one means that no mail goes out, and no login of the owner's is
    touched. Raises TooManyAttempts.
    """
    user = User.objects.welcome(email=email)
    fits = password is None or password_fits(email, user, password)
    welcome = user if user and fits and not user.is_locked else None
    code, token = f"{secrets.randbelow(10**6):06d}", secrets.token_urlsafe(32)
    challenge = new_challenge("Log in")
    stored_code = code if welcome else secrets.token_hex(32)
    stored_token = token if welcome else secrets.token_hex(32)
    challenges.start(email, code=stored_code, token=stored_token, wallet_challenge=challenge, in_earnest=fits)
    send_login(welcome, code=code, token=token, minutes=challenges.LIFETIME_SECONDS // 60)
    answer: dict[str, object] = {"message": MESSAGE, "expires_in": challenges.LIFETIME_SECONDS}
    return answer | ({"challenge": challenge} if hardware_wallet else {})


def password_fits(email: str, user: User | None, password: str) -> bool:
    """Return whether it is the user's password, and count a wrong one as a guess; raise TooManyAttempts."""
    try:
        with recorded(Credentials(email, password=password)), charged(account(email), here(), forgive=False):
            if not check_password(user, password):
                raise WrongCredentials()
    except WrongCredentials:
        return False
    return True


@in_equal_time
def finish_login(shown: Credentials) -> tuple[User, TokenPair]:
    """Let the user in and return them with new tokens; raise what is wrong with what is shown.

    CodeInvalid, CodeExpired, WalletSignatureInvalid, WrongCredentials, SecondFactorNeeded, AccountLocked,
    TooManyAttempts.
    """
    with recorded(shown):
        user = prove_by_mail(shown) if shown.password is None else prove_by_password(shown)
        if user.is_locked:
            raise AccountLocked()
    user.last_login, user.login_attempts = timezone.now(), 0
    user.email_verified = user.email_verified or shown.password is None
    noted = {name: getattr(user, name) for name in ("last_login", "login_attempts", "email_verified")}
    if not User.objects.filter(pk=user.pk, is_active=True).update(**noted):
        raise CodeExpired()  # the account was deleted meanwhile
    pair = issue_tokens(user)
    record("login.succeeded", subject=user, method=method_of(shown))
    return user, pair


def log_in_staff(shown: Credentials) -> User:
    """Return the staff member whose password it is, with the second factors that the account asks for.

    The operator pages have the same lockouts as the API. Raises WrongCredentials, AccountLocked, TooManyAttempts.
    """
    with recorded(shown):
        user = prove_by_password(shown, alone=True)
        if user.is_locked:
            raise AccountLocked()
        if not user.is_staff:
            raise WrongCredentials()
    record("admin.login", subject=user, method=method_of(shown))
    return user


def prove_by_mail(shown: Credentials) -> User:
    """Return the user who has the code or the link, and the second factors. A link is never locked out."""
    proof = challenges.Proof("code", shown.code) if shown.code else challenges.Proof("link", shown.token or "")
    guessable = (account(shown.email), here()) if proof.kind == "code" else ()
    with charged(*guessable):
        guess = challenges.Guess(shown.email, proof)
        with taken_back(guess):
            user = User.objects.welcome(email=shown.email)
            if user is None:
                raise CodeExpired()
            if missing := shown.missing(user):
                signable = {"challenge": guess.wallet_challenge} if "signature" in missing else {}
                raise SecondFactorNeeded(details={"required": missing, **signable})
            prove_after_mail(user, shown, guess)
            guess.use()
    if proof.kind == "link":
        # Whoever has come this far is the owner: what others guessed is forgotten, whichever way they guessed.
        lift_account(shown.email)
    return user


def prove_after_mail(user: User, shown: Credentials, guess: challenges.Guess) -> None:
    """Check the second factors; guesses that follow a link are counted on their own, and recovery codes, which cannot
    be guessed, are never locked out.
    """
    countable = guess.kind == "link" and factors_of(user) and shown.recovery_code is None
    with charged(*([second_factor(user.email)] if countable else [])):
        prove_second_factors(user, shown, guess.wallet_challenge)


@contextmanager
def taken_back(guess: challenges.Guess) -> Iterator[None]:
    """Give the guess back if the block ends in anything but a wrong second factor."""
    try:
        yield
    except WRONG:
        raise
    except BaseException:
        with suppress(RedisUnavailable):
            guess.take_back()
        raise


def prove_by_password(shown: Credentials, *, alone: bool = False) -> User:
    """Return the user who knows the password and has the second factors: without any the password does not count,
    unless it may stand `alone`. Raises WrongCredentials, whichever is wrong.
    """
    with charged(account(shown.email), here()):
        user = User.objects.welcome(email=shown.email)
        right = check_password(user, shown.password or "")
        if user is None or not right or shown.missing(user) or not (alone or factors_of(user)):
            raise WrongCredentials()
        signs = any(factor.signs for factor in factors_of(user)) and shown.recovery_code is None
        try:
            prove_second_factors(user, shown, challenges.take_wallet_challenge(user.email) if signs else "")
        except (CodeInvalid, WalletSignatureInvalid) as error:
            raise WrongCredentials() from error
    return user


def prove_second_factors(user: User, shown: Credentials, wallet_challenge: str) -> None:
    """Check the factors of the account; a recovery code stands in for all of them.

    Raises CodeInvalid or WalletSignatureInvalid.
    """
    factors = factors_of(user)
    if factors and shown.recovery_code is not None:
        spend_recovery_code(user, shown.recovery_code)
        return
    for factor in factors:
        if not factor.prove(user, getattr(shown, factor.name) or "", wallet_challenge):
            raise factor.wrong()


def method_of(shown: Credentials) -> str:
    """Return what was shown, such as `code+totp`."""
    names = ("code", "token", "password", "totp", "recovery_code", "signature")
    return "+".join(name for name in names if getattr(shown, name) is not None)


@contextmanager
def recorded(shown: Credentials) -> Iterator[None]:
    """Record a failed or blocked login, with the same work for known and unknown addresses."""
    try:
        yield
    except SecondFactorNeeded:
        raise
    except (Unauthenticated, TooManyAttempts) as error:
        record_failure(shown, error)
        raise


def record_failure(shown: Credentials, error: GatewayError) -> None:
    """Record how a login ended; an address without an account is recorded as a hash."""
    known = User.objects.filter(email=shown.email)
    subject = str(known.values_list("pk", flat=True).first() or "")
    blocked = isinstance(error, TooManyAttempts)
    if not blocked:
        # Afterwards, as only an account that is there costs a write.
        afterwards(lambda: known.update(login_attempts=F("login_attempts") + 1))
    record(
        "login.blocked" if blocked else "login.failed",
        subject=subject, outcome=BLOCKED if blocked else FAILURE, method=method_of(shown), code=error.code,
        email_hash=keyed_hash("email", shown.email)[:16],
    )  # fmt: skip
