"""Revocations as entries in Redis, which are written at once, or as soon as Redis is available again.

There is one key for each revoked token or API key, locked account and ended epoch.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db.models import QuerySet
from redis import Redis
from redis.client import Pipeline

from accounts.models import ApiKey, IssuedToken, IssuedTokenQuerySet, User
from accounts.tokens.revocation.cache import cache_on
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.access import RedisUnavailable, by_server, redis_call
from lucid_gateway.kernel.redis.breaker import REDIRECTIONS
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys

publish_epoch_script = RedisScript(Path(__file__).parent / "publish_epoch.lua")
CHUNK = 1000
Item = TypeVar("Item")
RETRY_SECONDS = 0.5
API_KEY_REMEMBERED = timedelta(seconds=60)  # for so long a worker trusts what it read of an API key


class Entry(NamedTuple):
    """A key in Redis that refuses callers until `ends`. The key of an epoch holds its number, which never falls."""

    key: str
    ends: datetime
    epoch: int | None = None

    @property
    def value(self) -> int:
        """The value of the key; a gate is closed by one above its `above`."""
        return 1 if self.epoch is None else self.epoch


def access_token_life() -> timedelta:
    """Return how long an access token, or what a worker remembers of an API key, can stay valid."""
    return max(timedelta(minutes=settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES), API_KEY_REMEMBERED)


def revoked_tokens(tokens: IssuedTokenQuerySet) -> Iterator[Entry]:
    """Yield the entries of revoked tokens."""
    rows = tokens.values_list("user_id", "jti", "expires_at").iterator()
    return (Entry(keys.revoked(user_id, jti), expires) for user_id, jti, expires in rows)


def revoked_keys(api_keys: QuerySet[ApiKey]) -> Iterator[Entry]:
    """Yield the entries of those API keys that are revoked."""
    rows = api_keys.values_list("user_id", "key_id", "revoked_at").iterator()
    return (Entry(keys.revoked(user_id, key_id), at + API_KEY_REMEMBERED) for user_id, key_id, at in rows if at)


def locked(users: Iterable[tuple[object, datetime | None]]) -> Iterator[Entry]:
    """Yield the entries of locked accounts, given as (user_id, locked_until)."""
    return (Entry(keys.locked(user_id), until) for user_id, until in users if until)


def ended_epochs(users: Iterable[tuple[object, int, datetime | None]]) -> Iterator[Entry]:
    """Yield the entries of ended epochs, given as (user_id, token_epoch, token_epoch_at)."""
    life = access_token_life()
    return (Entry(keys.epoch(user_id), at + life, epoch) for user_id, epoch, at in users if at)


def all_entries(now: datetime) -> Iterator[Entry]:
    """Yield the entries of everything that the database says is revoked, locked or ended.

    `now` is the database's time. Locks that ended within the last hour are included, as other clocks may be behind: a
    lock in Redis is always checked in the database.
    """
    past = now - MAX_CLOCK_SKEW
    yield from revoked_tokens(IssuedToken.objects.to_blacklist(past))
    yield from revoked_keys(ApiKey.objects.filter(revoked_at__gt=past - API_KEY_REMEMBERED))
    yield from locked(User.objects.locked(past).values_list("user_id", "locked_until").iterator())
    users = User.objects.with_new_epoch(past - access_token_life())
    yield from ended_epochs(users.values_list("user_id", "token_epoch", "token_epoch_at").iterator())


def late_entries(since: datetime) -> Iterator[Entry]:
    """Yield what was revoked, locked or ended since then, by the database's time. A lock ends an epoch, too."""
    yield from revoked_tokens(IssuedToken.objects.filter(kind=IssuedToken.Kind.ACCESS, revoked_at__gte=since))
    yield from revoked_keys(ApiKey.objects.filter(revoked_at__gte=since))
    users = list(
        User.objects.with_new_epoch(since).values_list("user_id", "token_epoch", "token_epoch_at", "locked_until")
    )
    yield from ended_epochs(user[:3] for user in users)
    yield from locked((user_id, until) for user_id, _, _, until in users)


def in_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists of at most CHUNK."""
    left = iter(items)
    while chunk := list(islice(left, CHUNK)):
        yield chunk


def redis_now(server: Server) -> int:
    """Return the time of the Redis server in seconds since 1970; raise RedisUnavailable."""
    seconds, _ = server.call(lambda redis: redis.time())
    return int(seconds)


def publish(server: Server, entries: Sequence[Entry], *, now: int | None = None) -> None:
    """Write the entries, whose keys this server has; raise RedisUnavailable.

    Each expires an hour after it ends, for gateways whose clocks are behind. Expiries count from `now`, the time of the
    Redis server in seconds, which is read if it is not given.
    """
    if not entries:
        return
    started = redis_now(server) if now is None else now
    for chunk in in_chunks(entries):
        for entry in server.call(lambda redis, chunk=chunk: write(redis, chunk, started)):  # type: ignore[misc]
            redis_call(entry.key, lambda redis, entry=entry: write(redis, [entry], started))  # type: ignore[misc]


def write(redis: Redis, entries: Sequence[Entry], started: int) -> list[Entry]:
    """Write the entries; return those whose slots have moved to another server."""
    pipeline = redis.pipeline(transaction=False)
    for key, ends, epoch in entries:
        life = max(0, int(ends.timestamp()) - started) + int(MAX_CLOCK_SKEW.total_seconds())
        if epoch is None:
            pipeline.set(key, 1, ex=life)
        else:
            publish_epoch_script.add_to(pipeline, [key], [epoch, life])
    if len(entries) == 1:
        pipeline.execute()
        return []
    answers = answers_of(pipeline)
    return [entry for entry, answer in zip(entries, answers, strict=True) if isinstance(answer, Exception)]


def answers_of(pipeline: Pipeline) -> list[Any]:
    """Send the pipeline; return the answers, among them redirections (`REDIRECTIONS`); raise any other error."""
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not isinstance(answer, REDIRECTIONS):
            raise answer
    return answers


class Publisher:
    """Writes entries in the background that could not be written at once: other workers may not notice the outage."""

    def __init__(self) -> None:
        self.waiting: list[Entry] = []
        self.loop = Loop("revocation", self.publish_waiting, every=RETRY_SECONDS, needed=self.has_work)

    def add(self, entries: list[Entry]) -> None:
        """Write the entries as soon as Redis is available."""
        self.waiting = [*self.waiting, *entries]  # a new list: the loop may be reading the old one
        self.loop.start()

    def has_work(self) -> bool:
        """Drop the entries that have ended by every clock; return whether any are left."""
        over = datetime.now(UTC) - MAX_CLOCK_SKEW
        self.waiting = [entry for entry in self.waiting if entry.ends > over]
        return bool(self.waiting)

    def publish_waiting(self) -> None:
        """Write the waiting entries whose servers are available; those added meanwhile wait for the next round."""
        waiting = self.waiting
        left = publish_where_possible(waiting)
        self.waiting = [*left, *self.waiting[len(waiting) :]]

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds; return whether everything was written. A command waits before it ends."""
        return self.loop.wait(seconds)


publisher = Publisher()


def try_to_publish(entries: Iterable[Entry]) -> None:
    """Write the entries; without Redis, write them when it is back, and suspect the cache until it is rebuilt."""
    if left := publish_where_possible(entries):
        publisher.add(left)


def publish_where_possible(entries: Iterable[Entry]) -> list[Entry]:
    """Write the entries; suspect the caches on servers that are unavailable, and return the entries for these."""
    left: list[Entry] = []
    for server, chosen in by_server(entries, lambda entry: entry.key).items():
        try:
            publish(server, chosen)
        except RedisUnavailable:
            cache_on(server).suspect()
            left += chosen
    return left
