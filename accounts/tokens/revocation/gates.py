"""The gates that a caller must pass: one round trip to Redis checks revocation, lock, epoch and limit.

A revocation reaches other gateways through Redis. Redis may be split, or cut off from the gateway that revoked. So
each worker also reads late revocations from the database every second, and refuses their callers itself: wherever the
database can be read, a revoked token works for two seconds at most.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from redis import Redis

from accounts.models import ApiKey, IssuedToken, User
from accounts.tokens.locked import account_locked
from accounts.tokens.revocation.cache import RevocationCache, cache_on, forget_lost_servers
from accounts.tokens.revocation.doubts import doubts
from accounts.tokens.revocation.publishing import Entry, in_chunks, late_entries, try_to_publish
from accounts.tokens.revocation.rebuild import try_to_rebuild
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW, compare_clock, database_now
from lucid_gateway.kernel.redis.access import RedisCallFailed, RedisUnavailable, server_of, servers, tag_of
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import TokenInvalid
from ratelimit.engine.limiter import Decision, GateClosed, KeyGate, Look, admit, admit_locally, look
from ratelimit.engine.limits import RequestLimit

D = TypeVar("D")
COMPLETE_GATE, LOCK_GATE, REVOKED_GATE, EPOCH_GATE = range(4)
READ_EVERY_SECONDS = 1.0
# Each read begins this much before the last one: a row may become visible later than its time says.
OVERLAP = timedelta(seconds=60)
SWEEP_SECONDS = 60.0


class LateRevocations:
    """The late revocations that this process has read from the database, by their keys in Redis."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.read_at: datetime | None = None
        self.run_ids: dict[Server, str] = {}
        self.swept_at = time.monotonic()

    def check(self, gates: Sequence[KeyGate]) -> None:
        """Raise GateClosed for the first gate that an entry closes."""
        if not self.entries:
            return
        for index, gate in enumerate(gates):
            entry = self.entries.get(gate.key)
            if entry is not None and gate.above is not None and entry.value > gate.above:
                raise GateClosed(index)

    def read(self) -> None:
        """Read new revocations, keep them, and write them to the Redis server that this process reaches: other data
        planes ask Redis alone. Raises django.db.Error.
        """
        asked_at, begun = time.time(), time.monotonic()
        now = database_now()
        compare_clock("the database", now.timestamp(), asked_at=asked_at)
        # The clock of a new primary may be behind.
        since = min(now, self.read_at or now) - OVERLAP
        new: list[Entry] = []
        for chunk in in_chunks(late_entries(since)):
            new += self.keep(chunk)
            time.sleep(0)  # lets other greenlets run
        self.read_at = now
        doubts.end(before=begun)
        try_to_publish(new)
        self.sweep()
        forget_lost_servers()
        self.run_ids = {server: run_id for server in servers() if (run_id := self.watch(server))}
        for server in servers():
            if cache_on(server).is_suspected:
                # Now, as the database answers: it may be down at the next request.
                with suppress(RedisUnavailable):
                    try_to_rebuild(cache_on(server), server.home)

    def keep(self, entries: Iterable[Entry]) -> list[Entry]:
        """Keep the entries; return the new ones."""
        new = [entry for entry in entries if self.entries.get(entry.key) != entry]
        self.entries |= {entry.key: entry for entry in new}
        return new

    def forget(self, key: str) -> None:
        """Drop the entry of an account that was unlocked."""
        self.entries.pop(key, None)

    def sweep(self) -> None:
        """Once a minute, drop the entries that have ended by every clock."""
        if time.monotonic() < self.swept_at + SWEEP_SECONDS:
            return
        over = datetime.now(UTC) - MAX_CLOCK_SKEW
        self.entries = {key: entry for key, entry in list(self.entries.items()) if entry.ends > over}
        self.swept_at = time.monotonic()

    def watch(self, server: Server) -> str:
        """Compare the clock of a Redis server with ours, and suspect the cache if another server answers; return the
        run id of the one that answered last.

        It may have been on the other side of a split, where it did not receive what this side revoked.
        """
        before, asked_at = self.run_ids.get(server, ""), time.time()
        try:
            info, (seconds, microseconds) = server.call(facts)
        except RedisUnavailable:
            return before
        compare_clock(str(server), seconds + microseconds / 1e6, asked_at=asked_at)
        now = str(info["run_id"])
        if before and now not in (before, cache_on(server).trusted_run_id.decode()):
            cache_on(server).suspect()
        return now


def facts(redis: Redis) -> Any:
    """Return the server's INFO and its time (seconds, microseconds)."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.info("server")
    pipeline.time()
    return pipeline.execute()


late_revocations = LateRevocations()


class EpochOver(TokenInvalid):
    """A token from before the user's password or role changed, or before all of the user's logins were ended."""

    reason = "epoch_over"


class CacheIncomplete(Exception):
    """Redis does not have all revocations."""


def gates(caller: Caller, *, unlocked: bool = False) -> tuple[KeyGate, ...]:
    """Return the gates of a caller: the cache is complete on this server, the account is not locked, the token is not
    revoked and of the current epoch. `unlocked` says that the database was asked about the lock.
    """
    return (
        KeyGate(keys.in_slot(keys.REVOCATIONS_COMPLETE, tag_of(caller.subject)), None),
        KeyGate(keys.locked(caller.user_id), 1 if unlocked else 0),
        KeyGate(keys.revoked(caller.user_id, caller.jti), 0),
        KeyGate(keys.epoch(caller.user_id), caller.epoch),
    )


def admit_caller(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential and count the request in one round trip; raise TokenInvalid, AccountLocked or EpochOver.

    Without Redis, until the cache is complete, and while the caller is in doubt, the database decides. Without Redis
    this process counts by itself.
    """
    cache = cache_on(server_of(caller.subject))
    try:
        if doubts.concern(caller):
            return admit_by_database(caller, tier)
        if cache.is_suspected and not try_to_rebuild(cache, tag_of(caller.subject)):
            return admit_by_database(caller, tier)
        return admit_by_cache(caller, tier, cache)
    except RedisUnavailable as error:
        if not isinstance(error, RedisCallFailed):
            cache.suspect()
        check_in_database(caller)
        return admit_locally(tier, caller.subject)


def admit_by_cache(caller: Caller, tier: RequestLimit, cache: RevocationCache) -> Decision:
    """Pass the gates in Redis. The database decides if the cache is incomplete and cannot be rebuilt at once."""
    try:
        return pass_gates(caller, tier, admit)
    except CacheIncomplete:
        if not try_to_rebuild(cache, tag_of(caller.subject)):
            return admit_by_database(caller, tier)
    try:
        return pass_gates(caller, tier, admit)
    except CacheIncomplete:
        return admit_by_database(caller, tier)


def pass_gates(caller: Caller, tier: RequestLimit, decide: Callable[..., D], *, unlocked: bool = False) -> D:
    """Check the late revocations, then ask Redis; return what `decide`, which is `admit` or `look`, returns.

    Raises TokenInvalid, AccountLocked, EpochOver, CacheIncomplete or RedisUnavailable.
    """
    caller_gates = gates(caller, unlocked=unlocked)
    try:
        late_revocations.check(caller_gates)
        return decide(tier, caller.subject, gates=caller_gates)
    except GateClosed as error:
        closed = error.index
    if closed == LOCK_GATE:
        # The lock may have been lifted while Redis was unavailable.
        refuse_locked(caller)
        late_revocations.forget(keys.locked(caller.user_id))
        return pass_gates(caller, tier, decide, unlocked=True)
    if closed == REVOKED_GATE:
        raise TokenInvalid(reason="token_revoked")
    if closed == EPOCH_GATE:
        raise EpochOver()
    raise CacheIncomplete


def admit_by_database(caller: Caller, tier: RequestLimit) -> Decision:
    """Check the credential in the database while the cache is rebuilt; Redis still counts."""
    check_in_database(caller)
    return admit(tier, caller.subject)


def look_at_caller(caller: Caller, tier: RequestLimit) -> Look | None:
    """Return how `admit_caller` would decide on the caller's next request, and count nothing.

    A caller without a token id is what a user would be with a new token. Without Redis the database checks the
    credential, each process counts by itself, and this returns None. Raises TokenInvalid, AccountLocked or EpochOver.
    """
    check = check_in_database if caller.jti else refuse_locked
    try:
        with suppress(CacheIncomplete):
            if not doubts.concern(caller) and not cache_on(server_of(caller.subject)).is_suspected:
                return pass_gates(caller, tier, look)
        check(caller)
        return look(tier, caller.subject)
    except RedisUnavailable:
        check(caller)
        return None


def refuse_locked(caller: Caller) -> None:
    """Raise AccountLocked if the database says that the account is locked, TokenInvalid if it was deleted."""
    user = User.objects.filter(pk=caller.user_id).first()
    if user is None or not user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if user.is_locked:
        raise account_locked(user)


def check_in_database(caller: Caller) -> None:
    """Check the credential in the database; raise TokenInvalid or AccountLocked. A database error admits nobody."""
    credential: ApiKey | IssuedToken | None
    if caller.by_api_key:
        credential = ApiKey.objects.filter(key_id=caller.jti).select_related("user").first()
    else:
        credential = IssuedToken.objects.filter(user_id=caller.user_id, jti=caller.jti).select_related("user").first()
    if credential is None:
        raise TokenInvalid(reason="token_revoked")
    if not credential.user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if credential.user.is_locked:
        raise account_locked(credential.user)
    if credential.revoked_at is not None:
        raise TokenInvalid(reason="token_revoked")
    if credential.user.token_epoch > caller.epoch:
        raise EpochOver()
