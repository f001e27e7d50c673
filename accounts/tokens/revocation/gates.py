"""What a caller must pass: one round trip to Redis asks for revocation, lock, epoch and limit.

Each worker also reads late revocations from the database, every second, and holds them against requests itself. A
revocation reaches other gateways through Redis. Where Redis is split, or cut off from the gateway that revoked, this
bounds for how long a revoked token works elsewhere: by two seconds, wherever the database can be read.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from redis import Redis

from accounts.models import ApiKey, IssuedToken, User
from accounts.tokens.revocation.cache import revocation_cache
from accounts.tokens.revocation.publishing import Entry, in_chunks, late_entries, try_to_publish
from accounts.tokens.revocation.rebuild import try_to_rebuild
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW, compare_clock, database_now
from lucid_gateway.kernel.redis.access import RedisCallFailed, RedisUnavailable, redis_call
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import AccountLocked, TokenInvalid
from ratelimit.engine.limiter import Decision, GateClosed, KeyGate, admit, admit_locally
from ratelimit.engine.limits import RequestLimit

COMPLETE_GATE, LOCK_GATE, REVOKED_GATE, EPOCH_GATE = range(4)
READ_EVERY_SECONDS = 1.0
# Each look goes back behind the last one, for what became visible later than its time says.
OVERLAP = timedelta(seconds=60)
SWEEP_SECONDS = 60.0


class LateRevocations:
    """The late revocations that this process knows of, by their keys in Redis."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.read_at: datetime | None = None
        self.run_id = ""
        self.swept_at = time.monotonic()

    def check(self, gates: Sequence[KeyGate]) -> None:
        """Raise GateClosed for the first of the gates that an entry closes."""
        if not self.entries:
            return
        for index, gate in enumerate(gates):
            entry = self.entries.get(gate.key)
            if entry is not None and gate.above is not None and entry.value > gate.above:
                raise GateClosed(index)

    def read(self) -> None:
        """Read what is new, hold it against requests, and write it to the Redis that is in reach, for whoever asks
        Redis alone. Raises django.db.Error.
        """
        asked_at = time.time()
        now = database_now()
        compare_clock("the database", now.timestamp(), asked_at=asked_at)
        # A primary that took over may have a clock that is behind.
        since = min(now, self.read_at or now) - OVERLAP
        new: list[Entry] = []
        for chunk in in_chunks(late_entries(since)):
            new += self.hold(chunk)
            time.sleep(0)  # others of this worker get their turn
        self.read_at = now
        try_to_publish(new)
        self.sweep()
        self.watch_redis()
        if revocation_cache.is_suspected:
            # Now, while the database answers: it may be down when the next request comes.
            with suppress(RedisUnavailable):
                try_to_rebuild()

    def hold(self, entries: Iterable[Entry]) -> list[Entry]:
        """Hold the entries against requests; return those that are new."""
        new = [entry for entry in entries if self.entries.get(entry.key) != entry]
        self.entries |= {entry.key: entry for entry in new}
        return new

    def forget(self, key: str) -> None:
        """Hold the entry against nobody any more: its account was unlocked."""
        self.entries.pop(key, None)

    def sweep(self) -> None:
        """Once a minute, forget what has ended by any clock."""
        if time.monotonic() < self.swept_at + SWEEP_SECONDS:
            return
        over = datetime.now(UTC) - MAX_CLOCK_SKEW
        self.entries = {key: entry for key, entry in list(self.entries.items()) if entry.ends > over}
        self.swept_at = time.monotonic()

    def watch_redis(self) -> None:
        """Compare the clock of Redis with ours, and doubt the copy if another server answers: it may be one that was
        on the other side of a split, and has not heard what this side revoked.
        """
        asked_at = time.time()
        try:
            info, (seconds, microseconds) = redis_call(who_and_when)
        except RedisUnavailable:
            return
        compare_clock("Redis", seconds + microseconds / 1e6, asked_at=asked_at)
        if self.run_id and info["run_id"] != self.run_id and info["run_id"].encode() != revocation_cache.trusted_run_id:
            revocation_cache.suspect()
        self.run_id = info["run_id"]


def who_and_when(redis: Redis) -> Any:
    """Return what the server says of itself, and its time (seconds, microseconds)."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.info("server")
    pipeline.time()
    return pipeline.execute()


late_revocations = LateRevocations()


class EpochOver(TokenInvalid):
    """A token from before the user's password or role changed, or before all of the user's logins were ended."""

    reason = "epoch_over"


def gates(caller: Caller, *, unlocked: bool = False) -> tuple[KeyGate, ...]:
    """Return what must be open: the copy is of this server's run, the account not locked (or known not to be), the
    token not revoked and of the current epoch.
    """
    return (
        KeyGate(keys.REVOCATIONS_COMPLETE, None),
        KeyGate(keys.locked(caller.user_id), 1 if unlocked else 0),
        KeyGate(keys.revoked(caller.user_id, caller.jti), 0),
        KeyGate(keys.epoch(caller.user_id), caller.epoch),
    )


def admit_caller(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential and count the request in one round trip; raise TokenInvalid, AccountLocked or EpochOver.

    Without Redis, and until the copy is whole, the database is asked. Without Redis this process alone counts
    (DESIGN, section 5).
    """
    try:
        if revocation_cache.is_suspected and not try_to_rebuild():
            return admit_by_database(caller, tier)
        return admit_by_copy(caller, tier)
    except RedisUnavailable as error:
        if not isinstance(error, RedisCallFailed):
            revocation_cache.suspect()
        check_in_database(caller)
        return admit_locally(tier, caller.subject)


def admit_by_copy(caller: Caller, tier: RequestLimit, *, unlocked: bool = False, restored: bool = False) -> Decision:
    """Ask Redis, once it is known that no late revocation stands against the caller; the database if the copy is gone
    and cannot be restored at once.
    """
    doors = gates(caller, unlocked=unlocked)
    try:
        late_revocations.check(doors)
        return admit(tier, caller.subject, gates=doors)
    except GateClosed as error:
        closed = error.index
    if closed == LOCK_GATE:
        # The lock may have been lifted when Redis could not be told.
        refuse_locked(caller)
        late_revocations.forget(keys.locked(caller.user_id))
        return admit_by_copy(caller, tier, unlocked=True, restored=restored)
    if closed == REVOKED_GATE:
        raise TokenInvalid(reason="token_revoked")
    if closed == EPOCH_GATE:
        raise EpochOver()
    if restored or not try_to_rebuild():
        return admit_by_database(caller, tier)
    return admit_by_copy(caller, tier, unlocked=unlocked, restored=True)


def admit_by_database(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential in the database while the copy is built; Redis counts, as ever."""
    check_in_database(caller)
    return admit(tier, caller.subject)


def refuse_locked(caller: Caller) -> None:
    """Raise AccountLocked if the database says so, TokenInvalid if the user is gone."""
    user = User.objects.filter(pk=caller.user_id).first()
    if user is None or not user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if user.is_locked:
        raise AccountLocked()


def check_in_database(caller: Caller) -> None:
    """Raise TokenInvalid or AccountLocked by what the database says; a database error means nobody is let in."""
    known: ApiKey | IssuedToken | None
    if caller.by_api_key:
        known = ApiKey.objects.filter(key_id=caller.jti).select_related("user").first()
    else:
        known = IssuedToken.objects.filter(jti=caller.jti).select_related("user").first()
    if known is None:
        raise TokenInvalid(reason="token_revoked")
    if not known.user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if known.user.is_locked:
        raise AccountLocked()
    if known.revoked_at is not None:
        raise TokenInvalid(reason="token_revoked")
    if known.user.token_epoch > caller.epoch:
        raise EpochOver()
