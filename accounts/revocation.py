"""Revoked tokens and locked accounts: the database is the authority, Redis the copy that the hot path reads.

The copy counts only while its marker is there. After a flush, a restart or an outage it is built anew from the
database before the next authenticated request is let through, so that nothing revoked comes back.
"""

import itertools
import threading
from contextlib import suppress
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone
from redis import Redis

from accounts.callers import Caller
from accounts.models import IssuedToken, User
from lucid_gateway.errors import AccountLocked, TokenInvalid
from lucid_gateway.redis_access import RedisUnavailable, ping, redis_call
from ratelimit.limiter import Decision, Gate, GateClosed, admit, admit_locally
from ratelimit.tiers import Tier

COPY_MARKER = "blacklist:complete"
CHUNK = 1000


class Copy:
    """What this process knows of the copy in Redis. At first nothing: an earlier process may not have got to write
    what it revoked, so that each doubts the copy until it has built it once.
    """

    def __init__(self) -> None:
        self.building = threading.Lock()
        self._doubts = itertools.count(1)
        self.doubted = self.settled = 0
        self.doubt()

    def doubt(self) -> None:
        """Note that the copy may lack something; a build that has begun already does not settle this."""
        self.doubted = next(self._doubts)

    @property
    def suspect(self) -> bool:
        """Whether the copy must be built anew before it is believed."""
        return self.settled < self.doubted


copy = Copy()


def blacklist_key(jti: str) -> str:
    """Return the key that says a token is revoked."""
    return f"blacklist:{jti}"


def lock_key(user_id: object) -> str:
    """Return the key that says an account is locked."""
    return f"account_lock:{user_id}"


def gates(caller: Caller) -> tuple[Gate, ...]:
    """Return what must be open for the caller: the copy is there, the token not revoked, the account not locked."""
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
        copy.suspect = True
        check_in_database(caller)
        return admit_locally(tier, f"user:{caller.user_id}")


def admit_known(caller: Caller, tier: Tier, *, rebuilt: bool = False) -> Decision:
    """Ask Redis; build the copy first if it is gone."""
    try:
        return admit(tier, f"user:{caller.user_id}", gates=gates(caller))
    except GateClosed as closed:
        if closed.index == 1:
            raise TokenInvalid() from closed
        if closed.index == 2:
            raise AccountLocked() from closed
        if rebuilt:
            raise RedisUnavailable("the copy does not stay") from closed
    rebuild()
    return admit_known(caller, tier, rebuilt=True)


def check_in_database(caller: Caller) -> None:
    """Raise TokenInvalid or AccountLocked by what the database says; a database error means nobody is let in."""
    token = IssuedToken.objects.filter(jti=caller.jti, revoked_at=None).select_related("user").first()
    if token is None or not token.user.is_active:
        raise TokenInvalid()
    if token.user.is_locked:
        raise AccountLocked()


def rebuild() -> int:
    """Write the whole copy from the database and mark it complete; return the number of entries."""
    with copy.building:
        ping()
        tokens = IssuedToken.objects.to_blacklist().values_list("jti", "expires_at")
        locks = User.objects.locked().values_list("user_id", "locked_until")
        entries = [(blacklist_key(jti), expires) for jti, expires in tokens.iterator()]
        entries += [(lock_key(user_id), until) for user_id, until in locks.iterator() if until]
        for start in range(0, len(entries), CHUNK):
            publish(entries[start : start + CHUNK])
        redis_call(lambda redis: redis.set(COPY_MARKER, 1))
        copy.suspect = False
        return len(entries)


def publish(entries: list[tuple[str, datetime]]) -> None:
    """Write keys that end at the given times, in one round trip; raise RedisUnavailable."""
    now = timezone.now()

    def write(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        for key, ends in entries:
            pipeline.set(key, 1, px=max(1, int((ends - now).total_seconds() * 1000)))
        pipeline.execute()

    if entries:
        redis_call(write)


def try_to_publish(entries: list[tuple[str, datetime]]) -> None:
    """Write keys; without Redis remember that the copy must be built anew before it is believed again."""
    try:
        publish(entries)
    except RedisUnavailable:
        copy.suspect = True


def revoke(tokens: "QuerySet[IssuedToken]") -> int:
    """Revoke the tokens, in the database first; return how many were live."""
    now = timezone.now()
    live = list(tokens.filter(expires_at__gt=now, revoked_at=None).values_list("jti", "kind", "expires_at"))
    ended = IssuedToken.objects.filter(jti__in=[jti for jti, _, _ in live], revoked_at=None).update(revoked_at=now)
    access = [(blacklist_key(jti), expires) for jti, kind, expires in live if kind == IssuedToken.Kind.ACCESS]
    try_to_publish(access)
    return ended


def publish_lock(user: User) -> None:
    """Tell the hot path that the account is locked until `user.locked_until`."""
    if user.locked_until is not None:
        try_to_publish([(lock_key(user.pk), user.locked_until)])


def publish_unlock(user: User) -> None:
    """Tell the hot path that the account is open again."""
    try:
        redis_call(lambda redis: redis.delete(lock_key(user.pk)))
    except RedisUnavailable:
        copy.suspect = True
