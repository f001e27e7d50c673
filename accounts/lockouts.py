"""Automatic lockouts, which stop guesses at codes and passwords and nothing else.

Mailed links and issued tokens keep working, so that no one can lock an owner out by guessing.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from redis import Redis

from accounts.models import User
from lucid_gateway.audit.events import BLOCKED, record
from lucid_gateway.kernel.record import current_record
from lucid_gateway.kernel.redis.access import RedisUnavailable, by_server, redis_call
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
    """An active lockout; `seconds_left` is from when it was read."""

    subject: LockoutSubject
    failures: int
    until: datetime
    seconds_left: int


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
        """Charge the subjects; raise TooManyAttempts, and charge none, while one of them is locked out.

        Each subject has calls of its own, because the nodes of a Redis Cluster share no script. A charge checks the
        lockout again in the same step, so parallel attempts do not exceed a rule.
        """
        self.subjects = subjects
        self.charge_id = secrets.token_hex(8)
        self.begun: dict[LockoutSubject, int] = {}
        if active := active_lockouts_of(subjects):
            raise TooManyAttempts(retry_after=max(lockout.seconds_left for lockout in active))
        try:
            for subject in subjects:
                self.charge(subject)
            for subject, ends in self.begun.items():
                add_to_index(subject, ends)
        except BaseException:
            # Also what was charged by a call that raised RedisUnavailable.
            with suppress(RedisUnavailable):
                self.refund()
            raise

    def charge(self, subject: LockoutSubject) -> None:
        """Charge one subject; raise TooManyAttempts if it is locked out."""
        rule = RULES[subject.kind]
        limits = (rule.free_failures, rule.first_seconds, rule.longest_seconds)
        wait, ends = charge_script([subject.key], [self.charge_id, FAILURES_EXPIRE_SECONDS, *limits])
        if wait:
            raise TooManyAttempts(retry_after=wait)
        if ends:
            self.begun[subject] = ends

    def fail(self) -> None:
        """Record the lockouts that this attempt began."""
        for subject in self.begun:
            record("lockout.started", subject=whom_it_concerns(subject), outcome=BLOCKED, counted=subject.kind)

    def forgive(self) -> None:
        """Refund the attempt and delete earlier failures, except those of the address."""
        self.refund(reset=("account", "second-factor", "signed-in"))

    def refund(self, *, reset: Sequence[str] = ()) -> None:
        """Subtract the attempt from its subjects, and delete all failures of the kinds in `reset`.

        Raises RedisUnavailable, but only after every subject was tried. A second refund changes nothing.
        """
        with ExitStack() as stack:
            for subject in reversed(self.subjects):
                stack.callback(self.refund_one, subject, reset=subject.kind in reset)

    def refund_one(self, subject: LockoutSubject, *, reset: bool) -> None:
        """Subtract the attempt from one subject, or delete all failures of the subject."""
        if self.begun.pop(subject, None):
            remove_from_index(subject)
        if reset:
            delete_failures(subject)
        else:
            refund_script([subject.key], [self.charge_id])


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


def active_lockouts() -> list[Lockout]:
    """Return the active lockouts of the index, longest first; raise RedisUnavailable."""

    def read(redis: Redis) -> Any:
        # Any: the type that redis-py gives is too wide.
        return redis.zrange(keys.LOCKOUTS, "+inf", f"({redis.time()[0]}", desc=True, byscore=True)

    found = active_lockouts_of([subject_of(name.decode()) for name in redis_call(keys.LOCKOUTS, read)])
    return sorted(found, key=lambda lockout: lockout.until, reverse=True)


def active_lockouts_of(subjects: Iterable[LockoutSubject]) -> list[Lockout]:
    """Return the active lockouts of these subjects; raise RedisUnavailable."""
    found: list[Lockout] = []
    for server, chosen in by_server(subjects, lambda subject: subject.key).items():
        (now, _), *hashes = server.call(lambda redis, chosen=chosen: read_hashes(redis, chosen))  # type: ignore[misc]
        for subject, (failures, until) in zip(chosen, hashes, strict=True):
            ends = int(until or 0)
            if ends > now:
                at = datetime.fromtimestamp(ends, tz=UTC)
                found.append(Lockout(subject, int(failures or 0), at, seconds_left=ends - now))
    return found


def read_hashes(redis: Redis, subjects: Sequence[LockoutSubject]) -> list[Any]:
    """Return the server's time, and the failures and the end of the lockout of each subject."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    for subject in subjects:
        pipeline.hmget(subject.key, "n", "u")
    return pipeline.execute()


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
    remove_from_index(subject)
    delete_failures(subject)


def delete_failures(subject: LockoutSubject) -> None:
    """Delete the failures of a subject, and with them its lockout; raise RedisUnavailable."""
    redis_call(subject.key, lambda redis: redis.delete(subject.key))


# The index only tells which lockouts to list; a lockout holds without it. An entry is written after its lockout began
# and removed before it ends, so that nobody removes the entry of a later lockout.


def add_to_index(subject: LockoutSubject, ends: int) -> None:
    """List the lockout until it ends, if Redis is available."""

    def write(redis: Redis) -> None:
        now = redis.time()[0]
        pipeline = redis.pipeline()
        pipeline.zremrangebyscore(keys.LOCKOUTS, "-inf", now)
        pipeline.zadd(keys.LOCKOUTS, {subject.text: ends})
        pipeline.expire(keys.LOCKOUTS, FAILURES_EXPIRE_SECONDS)
        pipeline.execute()

    with suppress(RedisUnavailable):
        redis_call(keys.LOCKOUTS, write)


def remove_from_index(subject: LockoutSubject) -> None:
    """Stop listing the lockout, if Redis is available."""
    with suppress(RedisUnavailable):
        redis_call(keys.LOCKOUTS, lambda redis: redis.zrem(keys.LOCKOUTS, subject.text))
