"""Automatic lockouts, which stop guesses at codes and passwords and nothing else.

Mailed links and issued tokens keep working, so that no one can lock an owner out by guessing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from accounts.models import User
from lucid_gateway.audit.events import BLOCKED, record
from lucid_gateway.kernel.record import current_record
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.secrets.digests import keyed_hash
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import CodeInvalid, TooManyAttempts, WalletSignatureInvalid, WrongCredentials
from ratelimit.client_address import address_bucket

FAILURES_EXPIRE_SECONDS = 86_400
charge_script = RedisScript(Path(__file__).parent / "lockout_charge.lua")
refund_script = RedisScript(Path(__file__).parent / "lockout_refund.lua")
WRONG_GUESS = (CodeInvalid, WalletSignatureInvalid, WrongCredentials)


@dataclass(frozen=True)
class Rule:
    """The first failures are free. Each later one locks out for twice as long as the last, up to `longest_seconds`."""

    free_failures: int
    first_seconds: int
    longest_seconds: int


RULES = {
    "account": Rule(free_failures=10, first_seconds=60, longest_seconds=3600),
    "address": Rule(free_failures=20, first_seconds=60, longest_seconds=3600),
    # The second factor after a mailed link: only someone who can read the account's mail gets this far.
    "second-factor": Rule(free_failures=10, first_seconds=60, longest_seconds=3600),
    # The second factor of a signed-in user: counted apart, so that a stolen token cannot lock out logins.
    "signed-in": Rule(free_failures=10, first_seconds=60, longest_seconds=3600),
}


@dataclass(frozen=True)
class LockoutSubject:
    """The subject whose failures are counted: `kind` is a key of RULES, `name` an email, an address or a user's id."""

    kind: str
    name: str

    @property
    def text(self) -> str:
        """The subject as operators see it."""
        return f"{self.kind}:{self.name}"

    @property
    def key(self) -> str:
        """The key of its failures in Redis."""
        return keys.lockout(self.kind, keyed_hash("lockout", self.name)[:40])


@dataclass(frozen=True)
class Lockout:
    """An active lockout."""

    subject: LockoutSubject
    failures: int
    until: datetime


def subject_of(text: str) -> LockoutSubject:
    """Return the subject that `LockoutSubject.text` describes."""
    kind, _, name = text.partition(":")
    return LockoutSubject(kind, name)


def account(email: str) -> LockoutSubject:
    """Return the subject for guesses at the codes and passwords of an email, whether it has an account or not."""
    return LockoutSubject("account", email)


def second_factor(email: str) -> LockoutSubject:
    """Return the subject for guesses at the second factor after a mailed link."""
    return LockoutSubject("second-factor", email)


def signed_in_user(user_id: object) -> LockoutSubject:
    """Return the subject for guesses at the second factor of a signed-in user."""
    return LockoutSubject("signed-in", str(user_id))


def of_address(address: str) -> LockoutSubject:
    """Return the subject for guesses from an address."""
    return LockoutSubject("address", address_bucket(address))


def this_address() -> LockoutSubject:
    """Return the subject for guesses from the request's address."""
    return of_address(current_record().client_address)


def whom_it_concerns(subject: LockoutSubject) -> str:
    """Return the subject of an audit event: the id of the user, or the lockout's key for an address or an email without
    an account. Known and unknown emails cost the same query.
    """
    if subject.kind == "address":
        return subject.key
    if subject.kind == "signed-in":
        return subject.name
    user_id = User.objects.filter(email=subject.name).values_list("pk", flat=True).first()
    return str(user_id or subject.key)


class GuessAttempt:
    """One attempt, which counts as a failure of its subjects from the start.

    Call `forgive` if it was right, `refund` if nothing was guessed, `fail` if it was wrong.
    """

    def __init__(self, *subjects: LockoutSubject) -> None:
        """Charge the subjects; raise TooManyAttempts, and charge none, while one of them is locked out."""
        self.subjects = subjects
        arguments: list[object] = [FAILURES_EXPIRE_SECONDS]
        for subject in subjects:
            rule = RULES[subject.kind]
            arguments += [subject.text, rule.free_failures, rule.first_seconds, rule.longest_seconds]
        wait, *begun = charge_script(keys_of(subjects), arguments) if subjects else [0]
        if wait:
            raise TooManyAttempts(retry_after=wait)
        self.begun = [subjects[index] for index in begun]

    def fail(self) -> None:
        """Record the lockouts that this attempt began."""
        for subject in self.begun:
            record("lockout.started", subject=whom_it_concerns(subject), outcome=BLOCKED, counted=subject.kind)

    def forgive(self) -> None:
        """Refund the attempt and delete earlier failures, except those of the address."""
        self.refund(reset=("account", "second-factor", "signed-in"))

    def refund(self, *, reset: Sequence[str] = ()) -> None:
        """Subtract the attempt from its subjects, and delete all failures of the kinds in `reset`."""
        if self.subjects:
            arguments = [part for subject in self.subjects for part in (subject.text, int(subject.kind in reset))]
            refund_script(keys_of(self.subjects), arguments)


@contextmanager
def charged(*subjects: LockoutSubject, forgive: bool = True) -> Iterator[None]:
    """Charge an attempt; when the block ends, count a wrong guess and refund any other attempt.

    Pass `forgive=False` if another factor follows. If a right password alone deleted earlier failures, an attacker who
    knows it could guess the second factor without end.
    """
    attempt = GuessAttempt(*subjects)
    try:
        yield
    except WRONG_GUESS:
        attempt.fail()
        raise
    except BaseException:
        with suppress(RedisUnavailable):
            attempt.refund()
        raise
    if forgive:
        attempt.forgive()
    else:
        attempt.refund()


def keys_of(subjects: Sequence[LockoutSubject]) -> list[str]:
    """Return the keys that the scripts expect."""
    return [keys.LOCKOUTS, *(subject.key for subject in subjects)]


def active_lockouts() -> list[Lockout]:
    """Return the active lockouts, longest first; raise RedisUnavailable."""

    def read(redis: Redis) -> list[Lockout]:
        now = redis.time()[0]
        # Any: the type that redis-py gives is too wide.
        found: Any = redis.zrange(keys.LOCKOUTS, "+inf", f"({now}", desc=True, byscore=True, withscores=True)
        return with_failures(redis, [(subject_of(name.decode()), ends) for name, ends in found])

    return redis_call(read)


def active_lockouts_of(subjects: Sequence[LockoutSubject]) -> list[Lockout]:
    """Return the active lockouts of these subjects; raise RedisUnavailable."""

    def read(redis: Redis) -> list[Lockout]:
        now = redis.time()[0]
        pipeline = redis.pipeline(transaction=False)
        for subject in subjects:
            pipeline.zscore(keys.LOCKOUTS, subject.text)
        ends = pipeline.execute()
        found = [(subject, end) for subject, end in zip(subjects, ends, strict=True) if end and end > now]
        return with_failures(redis, found)

    return redis_call(read)


def with_failures(redis: Redis, ends: Sequence[tuple[LockoutSubject, float]]) -> list[Lockout]:
    """Return the lockouts of subjects, given with the times when they end, with their numbers of failures."""
    pipeline = redis.pipeline(transaction=False)
    for subject, _ in ends:
        pipeline.hget(subject.key, "n")
    return [
        Lockout(subject, int(count or 0), datetime.fromtimestamp(end, tz=UTC))
        for (subject, end), count in zip(ends, pipeline.execute(), strict=True)
    ]


def subjects_of_user(user_id: object, email: str) -> tuple[LockoutSubject, ...]:
    """Return the subjects under which failures of the user are counted."""
    return account(email), second_factor(email), signed_in_user(user_id)


def lift_account(email: str) -> None:
    """End the lockouts of an account; without Redis, do nothing."""
    with suppress(RedisUnavailable):
        for subject in (account(email), second_factor(email)):
            lift(subject)


def lift(subject: LockoutSubject) -> None:
    """End a lockout and delete its failures; raise RedisUnavailable."""

    def remove(redis: Redis) -> None:
        redis.delete(subject.key)
        redis.zrem(keys.LOCKOUTS, subject.text)

    redis_call(remove)
