"""Revoked tokens and locked accounts: the database is the authority, Redis the copy that the hot path reads.

The copy counts only while its marker is there and names the running server. After a flush, a restart, a failover or
an outage it is built anew from the database before the next authenticated request is let through, so that nothing
revoked comes back.
"""

import threading
import time
from contextlib import suppress
from datetime import datetime

from django.utils import timezone
from redis import Redis

from accounts.callers import Caller
from accounts.models import IssuedToken, IssuedTokenQuerySet, User
from lucid_gateway.errors import AccountLocked, TokenInvalid
from lucid_gateway.redis_access import RedisUnavailable, ping, redis_call
from ratelimit.limiter import Decision, Gate, GateClosed, admit, admit_locally
from ratelimit.tiers import Tier

COPY_MARKER = "blacklist:complete"
REVOKED_GATE, LOCK_GATE = 1, 2
CHUNK = 1000
RETRY_SECONDS = 0.5
CLOCKS_DIFFER_SECONDS = 60  # a key outlives what it blocks, on a gateway whose clock is behind, too


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


def gates(caller: Caller) -> tuple[Gate, ...]:
    """Return what must be open: the copy is of this server's run, the token not revoked, the account not locked."""
    return (Gate(COPY_MARKER, None), Gate(blacklist_key(caller.jti), 0), Gate(lock_key(caller.user_id), 0))


def admit_caller(caller: Caller, tier: Tier) -> Decision:
    """Check the token and count the request in one round trip; raise TokenInvalid or AccountLocked.

    Without Redis the database is asked, and this process alone counts (DESIGN, section 5).
    """
    try:
        if copy.suspect:
            rebuild()
        return admit_known(caller, tier)
    except RedisUnavailable:
        copy.doubt()
        check_in_database(caller)
        return admit_locally(tier, f"user:{caller.user_id}")


def admit_known(caller: Caller, tier: Tier, *, rebuilt: bool = False, unlocked: bool = False) -> Decision:
    """Ask Redis; build the copy first if it is gone."""
    asked = gates(caller)[:LOCK_GATE] if unlocked else gates(caller)
    try:
        return admit(tier, f"user:{caller.user_id}", gates=asked)
    except GateClosed as error:
        closed = error.index
    if closed == REVOKED_GATE:
        raise TokenInvalid()
    if closed == LOCK_GATE:
        # The lock may have been lifted when Redis could not be told.
        check_in_database(caller)
        return admit_known(caller, tier, rebuilt=rebuilt, unlocked=True)
    if rebuilt:
        raise RedisUnavailable("the copy does not stay")
    rebuild()
    return admit_known(caller, tier, rebuilt=True, unlocked=unlocked)


def check_in_database(caller: Caller) -> None:
    """Raise TokenInvalid or AccountLocked by what the database says; a database error means nobody is let in."""
    token = IssuedToken.objects.filter(jti=caller.jti, revoked_at=None).select_related("user").first()
    if token is None or not token.user.is_active:
        raise TokenInvalid()
    if token.user.is_locked:
        raise AccountLocked()


def rebuild() -> int:
    """Write the whole copy from the database and mark it complete; return the number of entries.

    Requests that come meanwhile wait, then find it done. Without Redis none waits: its breaker lets one try.
    """
    ping()
    with copy.building:
        doubts = copy.doubts
        run_id = redis_call(lambda redis: redis.info("server")["run_id"])
        if not copy.suspect and redis_call(lambda redis: redis.get(COPY_MARKER)) == run_id.encode():
            return 0
        tokens = IssuedToken.objects.to_blacklist().values_list("jti", "expires_at")
        locks = User.objects.locked().values_list("user_id", "locked_until")
        entries = [(blacklist_key(jti), expires) for jti, expires in tokens.iterator()]
        entries += [(lock_key(user_id), until) for user_id, until in locks.iterator() if until]
        for start in range(0, len(entries), CHUNK):
            publish(entries[start : start + CHUNK])
        redis_call(lambda redis: redis.set(COPY_MARKER, run_id))
        copy.settled = doubts
        return len(entries)


def publish(entries: list[tuple[str, datetime]]) -> None:
    """Write keys that end soon after the given times, in one round trip; raise RedisUnavailable."""
    now = timezone.now()

    def write(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        for key, ends in entries:
            pipeline.set(key, 1, ex=max(0, int((ends - now).total_seconds())) + CLOCKS_DIFFER_SECONDS)
        pipeline.execute()

    if entries:
        redis_call(write)


def try_to_publish(entries: list[tuple[str, datetime]]) -> None:
    """Write keys; without Redis do so when it is back, for the workers that did not notice the outage.

    This process does not wait for that: it builds the copy anew before it believes it again.
    """
    try:
        publish(entries)
    except RedisUnavailable:
        copy.doubt()
        threading.Thread(target=publish_when_back, args=(entries,), name="revocation", daemon=True).start()


def publish_when_back(entries: list[tuple[str, datetime]]) -> None:
    """Try to write the keys until it works or none is needed any more."""
    while any(ends > timezone.now() for _, ends in entries):
        time.sleep(RETRY_SECONDS)
        with suppress(RedisUnavailable):
            publish(entries)
            return


def revoke(tokens: IssuedTokenQuerySet) -> int:
    """Revoke the tokens, in the database first; return how many were live.

    One update decides, so that a token written beside it is either among those revoked or can tell that they were.
    """
    now = timezone.now()
    ended = tokens.live(now).update(revoked_at=now)
    access = tokens.to_blacklist().filter(revoked_at=now).values_list("jti", "expires_at")
    try_to_publish([(blacklist_key(jti), expires) for jti, expires in access])
    return ended


def publish_lock(user: User) -> None:
    """Tell the hot path that the account is locked until `user.locked_until`."""
    if user.locked_until is not None:
        try_to_publish([(lock_key(user.pk), user.locked_until)])


def publish_unlock(user: User) -> None:
    """Tell the hot path that the account is open again; what Redis does not hear, it asks the database."""
    with suppress(RedisUnavailable):
        redis_call(lambda redis: redis.delete(lock_key(user.pk)))
