"""Revoked tokens and locked accounts: the database is the authority, Redis the copy that the hot path reads.

The copy counts only while its marker is there and names the running server. After a flush, a restart, a failover or
an outage it is built anew from the database before the next authenticated request is let through, so that nothing
revoked comes back.
"""

import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from django.conf import settings
from django.db.models import F, QuerySet
from django.utils import timezone
from redis import Redis

from accounts.callers import Caller
from accounts.models import ApiKey, IssuedToken, IssuedTokenQuerySet, User
from lucid_gateway.errors import AccountLocked, TokenInvalid
from lucid_gateway.redis_access import RedisUnavailable, ping, redis_call
from ratelimit.limiter import Decision, Gate, GateClosed, admit, admit_locally
from ratelimit.tiers import Tier

COPY_MARKER = "blacklist:complete"
BUILDER = "blacklist:builder"
BUILDER_LIFE_MS = 5000
BUILDER_POLL_SECONDS = 0.05
BUILD = "blacklist_build:"  # and the build's id: what says that nobody emptied the server since the build began
BUILD_LIFE_SECONDS = 600
MARK_UNLESS_EMPTIED = """
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1
"""
BUILDS_BEGUN, BUILDS_DONE = "blacklist_builds:begun", "blacklist_builds:done"
COUNTERS_LIFE_SECONDS = 86_400
DELETE_OWN = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
EXTEND_OWN = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
MARKER_GATE, LOCK_GATE, REVOKED_GATE, EPOCH_GATE = range(4)
CHUNK = 1000
# An epoch that a slow writer read a moment ago never replaces a later one.
SET_UNLESS_LOWER = """
if (tonumber(redis.call('GET', KEYS[1])) or 0) > tonumber(ARGV[1]) then return end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
"""
RETRY_SECONDS = 0.5
API_KEY_REMEMBERED = timedelta(seconds=60)  # for which a worker trusts what it has read of a key
CLOCKS_DIFFER_SECONDS = 60  # a key outlives what it blocks, on a gateway whose clock is behind, too


class EpochOver(TokenInvalid):
    """A token from before the user's password or role changed, or before all of the user's logins were ended."""


class Entry(NamedTuple):
    """A key of the copy: it blocks until `ends`; its value is above what the gate lets pass."""

    key: str
    ends: datetime
    value: int = 1


class Copy:
    """What this process knows of the copy in Redis: at first nothing, as an earlier process may have ended before it
    could write what it revoked.
    """

    def __init__(self) -> None:
        self.building = threading.Lock()
        self.doubts = 1
        self.settled = 0

    def doubt(self) -> None:
        """Note that the copy may lack something; a build that has begun already does not settle this."""
        self.doubts += 1

    @property
    def suspect(self) -> bool:
        """Whether the copy must be built anew before it is believed."""
        return self.settled < self.doubts


copy = Copy()


def blacklist_key(jti: str) -> str:
    """Return the key that says a token is revoked."""
    return f"blacklist:{jti}"


def lock_key(user_id: object) -> str:
    """Return the key that says an account is locked."""
    return f"account_lock:{user_id}"


def epoch_key(user_id: object) -> str:
    """Return the key that holds the user's token epoch, for as long as tokens of an earlier one could live."""
    return f"token_epoch:{user_id}"


def gates(caller: Caller, *, unlocked: bool = False) -> tuple[Gate, ...]:
    """Return what must be open: the copy is of this server's run, the account not locked (or known not to be), the
    token not revoked and of the current epoch.
    """
    return (
        Gate(COPY_MARKER, None),
        Gate(lock_key(caller.user_id), 1 if unlocked else 0),
        Gate(blacklist_key(caller.jti), 0),
        Gate(epoch_key(caller.user_id), caller.epoch),
    )


def admit_caller(caller: Caller, tier: Tier) -> Decision:
    """Check the credential and count the request in one round trip; raise TokenInvalid, AccountLocked or EpochOver.

    Without Redis the database is asked, and this process alone counts (DESIGN, section 5).
    """
    try:
        if copy.suspect:
            rebuild()
        return admit_known(caller, tier)
    except RedisUnavailable:
        copy.doubt()
        check_in_database(caller)
        return admit_locally(tier, caller.bucket)


def admit_known(caller: Caller, tier: Tier, *, rebuilt: bool = False, unlocked: bool = False) -> Decision:
    """Ask Redis; build the copy first if it is gone."""
    try:
        return admit(tier, caller.bucket, gates=gates(caller, unlocked=unlocked))
    except GateClosed as error:
        closed = error.index
    if closed == LOCK_GATE:
        # The lock may have been lifted when Redis could not be told.
        refuse_locked(caller)
        return admit_known(caller, tier, rebuilt=rebuilt, unlocked=True)
    if closed == REVOKED_GATE:
        raise TokenInvalid()
    if closed == EPOCH_GATE:
        raise EpochOver()
    if rebuilt:
        raise RedisUnavailable("the copy does not stay")
    rebuild()
    return admit_known(caller, tier, rebuilt=True, unlocked=unlocked)


def refuse_locked(caller: Caller) -> None:
    """Raise AccountLocked if the database says so, TokenInvalid if the user is gone."""
    user = User.objects.filter(pk=caller.user_id).first()
    if user is None or not user.is_active:
        raise TokenInvalid()
    if user.is_locked:
        raise AccountLocked()


def check_in_database(caller: Caller) -> None:
    """Raise TokenInvalid or AccountLocked by what the database says; a database error means nobody is let in."""
    known: ApiKey | IssuedToken | None
    if caller.by_api_key:
        known = ApiKey.objects.filter(key_id=caller.jti).select_related("user").first()
    else:
        known = IssuedToken.objects.filter(jti=caller.jti).select_related("user").first()
    if known is None or not known.user.is_active:
        raise TokenInvalid()
    if known.user.is_locked:
        raise AccountLocked()
    if known.revoked_at is not None:
        raise TokenInvalid()
    if known.user.token_epoch > caller.epoch:
        raise EpochOver()


def rebuild() -> int:
    """Write the whole copy from the database and mark it complete; return the number of entries, 0 if another worker
    or gateway did so.

    Requests that come meanwhile wait, then find it done: of all that find the copy gone, or that doubt it after an
    outage, one builds. Without Redis none waits: its breaker is open. Raises RedisUnavailable also when somebody
    emptied the server meanwhile.
    """
    ping()
    with copy.building:
        doubts = copy.doubts
        run_id = redis_call(lambda redis: redis.info("server")["run_id"]).encode()
        begun = number_at(BUILDS_BEGUN)
        build = f"{BUILD}{uuid.uuid4().hex}"
        while not redis_call(lambda redis: redis.set(BUILDER, build, nx=True, px=BUILDER_LIFE_MS)):
            if is_built(run_id, after=begun):
                copy.settled = doubts
                return 0
            time.sleep(BUILDER_POLL_SECONDS)
        try:
            if is_built(run_id, after=begun):
                copy.settled = doubts
                return 0
            entries = build_copy(build, run_id)
        finally:
            redis_call(lambda redis: redis.eval(DELETE_OWN, 1, BUILDER, build))
        copy.settled = doubts
        return entries


def is_built(run_id: bytes, *, after: int) -> bool:
    """Return whether the copy is whole; a worker that doubts it believes only a build that began later than that."""
    whole = redis_call(lambda redis: redis.get(COPY_MARKER)) == run_id
    return whole and (not copy.suspect or number_at(BUILDS_DONE) > after)


def build_copy(build: str, run_id: bytes) -> int:
    """Write all entries and the marker; return how many there were."""
    redis_call(lambda redis: redis.set(build, 1, ex=BUILD_LIFE_SECONDS))
    number = redis_call(lambda redis: redis.incr(BUILDS_BEGUN))
    redis_call(lambda redis: redis.expire(BUILDS_BEGUN, COUNTERS_LIFE_SECONDS))
    entries = entries_to_copy()
    for start in range(0, len(entries), CHUNK):
        publish(entries[start : start + CHUNK])
        redis_call(lambda redis: redis.eval(EXTEND_OWN, 1, BUILDER, build, BUILDER_LIFE_MS))
    if not redis_call(lambda redis: redis.eval(MARK_UNLESS_EMPTIED, 2, build, COPY_MARKER, run_id)):
        raise RedisUnavailable("emptied while the copy was built")
    redis_call(lambda redis: redis.set(BUILDS_DONE, number, ex=COUNTERS_LIFE_SECONDS))
    return len(entries)


def number_at(key: str) -> int:
    """Return the number that the key holds, 0 if none."""
    return int(redis_call(lambda redis: redis.get(key)) or 0)


def entries_to_copy() -> list[Entry]:
    """Return what the database knows to be revoked, locked or of an ended epoch."""
    tokens = IssuedToken.objects.to_blacklist().values_list("jti", "expires_at")
    entries = [Entry(blacklist_key(jti), expires) for jti, expires in tokens.iterator()]
    now = timezone.now()
    keys = ApiKey.objects.filter(revoked_at__gt=now - API_KEY_REMEMBERED).values_list("key_id", "revoked_at")
    entries += [Entry(blacklist_key(key_id), at + API_KEY_REMEMBERED) for key_id, at in keys.iterator() if at]
    locks = User.objects.locked().values_list("user_id", "locked_until")
    entries += [Entry(lock_key(user_id), until) for user_id, until in locks.iterator() if until]
    life = access_token_life()
    epochs = User.objects.with_new_epoch(now - life).values_list("user_id", "token_epoch", "token_epoch_at")
    return entries + [Entry(epoch_key(user_id), at + life, epoch) for user_id, epoch, at in epochs.iterator() if at]


def access_token_life() -> timedelta:
    """Return for how long an access token, or what a worker remembers of an API key, may live on."""
    return max(timedelta(minutes=settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES), API_KEY_REMEMBERED)


def publish(entries: list[Entry]) -> None:
    """Write keys that end soon after the given times, in one round trip; raise RedisUnavailable."""
    now = timezone.now()

    def write(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        for entry in entries:
            life = max(0, int((entry.ends - now).total_seconds())) + CLOCKS_DIFFER_SECONDS
            pipeline.eval(SET_UNLESS_LOWER, 1, entry.key, entry.value, life)
        pipeline.execute()

    if entries:
        redis_call(write)


class Publisher:
    """Writes in the background what could not be written at once, for the workers that did not notice the outage."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def add(self, entries: list[Entry]) -> None:
        """Write the entries as soon as Redis is back."""
        with self.lock:
            self.waiting = [*self.waiting, *entries]  # not in place: the thread may be at work on the list
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="revocation", daemon=True)
                self.thread.start()

    def run(self) -> None:
        """Try until it works or nothing is needed any more."""
        while True:
            time.sleep(RETRY_SECONDS)
            now = timezone.now()
            with self.lock:
                waiting = self.waiting = [entry for entry in self.waiting if entry.ends > now]
                if not waiting:
                    self.thread = None
                    return
            with suppress(RedisUnavailable):
                publish(waiting)
                with self.lock:
                    self.waiting = self.waiting[len(waiting) :]

    def wait(self, seconds: float) -> bool:
        """Return whether all was written, after so long at most: commands must not end before."""
        thread = self.thread
        if thread is not None:
            thread.join(seconds)
        return self.thread is None


publisher = Publisher()


def try_to_publish(entries: list[Entry]) -> None:
    """Write keys; without Redis do so when it is back, and build the copy anew before it is believed here again."""
    try:
        publish(entries)
    except RedisUnavailable:
        copy.doubt()
        publisher.add(entries)


def revoke(tokens: IssuedTokenQuerySet) -> int:
    """Revoke the tokens, in the database first; return how many were live.

    One update decides, so that a token written beside it is either among those revoked or can tell that they were.
    """
    now = timezone.now()
    ended = tokens.live(now).update(revoked_at=now)
    access = tokens.to_blacklist().filter(revoked_at=now).values_list("jti", "expires_at")
    try_to_publish([Entry(blacklist_key(jti), expires) for jti, expires in access])
    return ended


def revoke_api_keys(keys: QuerySet[ApiKey]) -> int:
    """Revoke API keys; return how many were not yet."""
    now = timezone.now()
    ids = list(keys.filter(revoked_at=None).values_list("key_id", flat=True))
    ended = ApiKey.objects.filter(key_id__in=ids, revoked_at=None).update(revoked_at=now)
    try_to_publish([Entry(blacklist_key(key_id), now + API_KEY_REMEMBERED) for key_id in ids])
    return ended


def end_epoch(user: User) -> None:
    """End all that was issued to the user until now, known or not, in one step."""
    now = timezone.now()
    User.objects.filter(pk=user.pk).update(token_epoch=F("token_epoch") + 1, token_epoch_at=now)
    user.refresh_from_db(fields=["token_epoch", "token_epoch_at"])
    try_to_publish([Entry(epoch_key(user.pk), now + access_token_life(), user.token_epoch)])


def publish_lock(user: User) -> None:
    """Tell the hot path that the account is locked until `user.locked_until`."""
    if user.locked_until is not None:
        try_to_publish([Entry(lock_key(user.pk), user.locked_until)])


def publish_unlock(user: User) -> None:
    """Tell the hot path that the account is open again; what Redis does not hear, it asks the database."""
    with suppress(RedisUnavailable):
        redis_call(lambda redis: redis.delete(lock_key(user.pk)))
    # Somebody may have locked the account meanwhile, and told Redis before we did.
    now = User.objects.filter(pk=user.pk).first()
    if now is not None and now.is_locked:
        publish_lock(now)
