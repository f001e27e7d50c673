"""Rebuilding the revocations in Redis from the database, after a flush, a restart, a failover or an outage."""

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from django.db import connection
from redis import Redis

from accounts.tokens.revocation.cache import RevocationCache, WantedRebuild, cache_on
from accounts.tokens.revocation.publishing import Entry, all_entries, answers_of, in_chunks, publish, redis_now
from accounts.tokens.revocation.revisions import publish_from_database
from lucid_gateway.kernel.clock import database_now
from lucid_gateway.kernel.redis.access import RedisUnavailable, by_server, redis_call, servers
from lucid_gateway.kernel.redis.exclusive_lease import end_lease, extend_lease, take_lease
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys

logger = logging.getLogger(__name__)

mark_complete_script = RedisScript(Path(__file__).parent / "mark_complete.lua")
LEASE_MS = 5000
EXTEND_EVERY_SECONDS = 1.0
POLL_SECONDS = 0.05
REBUILD_LIFE_SECONDS = 600
NUMBERS_LIFE_SECONDS = 86_400


def try_to_rebuild(cache: RevocationCache, tag: str) -> bool:
    """Return whether the cache is complete now for the slot with this tag, without waiting for another process.

    Of all processes that find it incomplete, or suspect it, one rebuilds it: a small cache at once, a large one in the
    background. Raises RedisUnavailable, also when the server was emptied meanwhile.
    """
    if time.monotonic() < cache.next_rebuild_at or not cache.rebuilding.acquire(blocking=False):
        return False
    handed_over = False
    try:
        wanted = cache.wanted_rebuild()
        if cache.is_complete(wanted, tag):
            return True
        rebuild_key = take_turn(wanted)
        if rebuild_key is None:
            cache.next_rebuild_at = time.monotonic() + POLL_SECONDS
            return False
        chunks = in_chunks(all_entries(database_now()))
        first, second = next(chunks, []), next(chunks, None)
        if second is not None:
            handed_over = True
            thread = threading.Thread(
                target=rebuild_in_background, args=[cache, rebuild_key, wanted], name="revocation-rebuild", daemon=True
            )
            thread.start()
            return False
        write_all(cache, rebuild_key, wanted, first)
        return True
    finally:
        if not handed_over:
            cache.rebuilding.release()


def rebuild_in_background(cache: RevocationCache, rebuild_key: str, wanted: WantedRebuild) -> None:
    """Rebuild a large cache while requests go on; after a failure the next request tries again."""
    try:
        write_all(cache, rebuild_key, wanted, all_entries(database_now()))
    except Exception as error:  # noqa: BLE001  # whatever it is, the next rebuild must be possible
        logger.warning("revocations not rebuilt in Redis", extra={"error": type(error).__name__})
    finally:
        cache.rebuilding.release()
        connection.close()


def rebuild() -> int:
    """Write all entries to all servers and mark the caches complete; return the number of entries.

    While another process rebuilds, waits for it and does not count its entries. Raises RedisUnavailable.
    """
    return sum(rebuild_on(cache_on(server)) for server in servers())


def rebuild_on(cache: RevocationCache) -> int:
    with cache.rebuilding:
        wanted = cache.wanted_rebuild()
        while not cache.is_complete(wanted, wanted.home):
            rebuild_key = take_turn(wanted)
            if rebuild_key is not None:
                return write_all(cache, rebuild_key, wanted, all_entries(database_now()))
            time.sleep(POLL_SECONDS)
        return 0


def take_turn(wanted: WantedRebuild) -> str | None:
    """Return the key of a rebuild that may begin now, None while another is in progress; raise RedisUnavailable."""
    rebuild_key = keys.rebuild(uuid.uuid4().hex)
    return rebuild_key if take_lease(lease_of(wanted), rebuild_key, milliseconds=LEASE_MS) else None


def lease_of(wanted: WantedRebuild) -> str:
    return keys.in_slot(keys.REBUILD_LEASE, wanted.home)


def write_all(cache: RevocationCache, rebuild_key: str, wanted: WantedRebuild, entries: Iterable[Entry]) -> int:
    """Write the entries of the server's users and the marker of each slot, then end the turn; return the number of
    entries. Raises RedisUnavailable.
    """
    server = cache.server
    tags = server.tags
    try:
        number = begin(server, rebuild_key, wanted, tags)
        written, now, extended_at = 0, redis_now(server), time.monotonic()
        for chunk in in_chunks(entries):
            own = by_server(chunk, lambda entry: entry.key).get(server, [])
            publish(server, own, now=now)
            written += len(own)
            if time.monotonic() > extended_at + EXTEND_EVERY_SECONDS:
                extend_lease(lease_of(wanted), rebuild_key, milliseconds=LEASE_MS)
                extended_at = time.monotonic()
        # Before the marker, which lets the edge serve the callers that it was taught.
        publish_from_database(server)
        mark_complete(server, rebuild_key, wanted, tags)
        done = keys.in_slot(keys.REBUILDS_DONE, wanted.home)
        redis_call(done, lambda redis: redis.set(done, number, ex=NUMBERS_LIFE_SECONDS))
    finally:
        end_lease(lease_of(wanted), rebuild_key)
    cache.trust(wanted)
    return written


def begin(server: Server, rebuild_key: str, wanted: WantedRebuild, tags: Sequence[str]) -> int:
    """Write the rebuild's key into each slot, and return the number of the rebuild; raise RedisUnavailable."""
    for part in in_chunks(tags):
        server.call(lambda redis, part=part: write_keys(redis, rebuild_key, part))  # type: ignore[misc]
    begun = keys.in_slot(keys.REBUILDS_BEGUN, wanted.home)
    number = redis_call(begun, lambda redis: redis.incr(begun))
    redis_call(begun, lambda redis: redis.expire(begun, NUMBERS_LIFE_SECONDS))
    return int(number)


def write_keys(redis: Redis, rebuild_key: str, tags: Sequence[str]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for tag in tags:
        pipeline.set(keys.in_slot(rebuild_key, tag), 1, ex=REBUILD_LIFE_SECONDS)
    answers_of(pipeline)


def mark_complete(server: Server, rebuild_key: str, wanted: WantedRebuild, tags: Sequence[str]) -> None:
    """Mark the revocations in each slot as complete; a slot that has moved meanwhile stays unmarked.

    Raises RedisUnavailable, also if the server was emptied since the rebuild began.
    """
    for part in in_chunks(tags):
        if 0 in server.call(lambda redis, part=part: mark(redis, rebuild_key, wanted.run_id, part)):  # type: ignore[misc]
            raise RedisUnavailable("emptied during the rebuild")


def mark(redis: Redis, rebuild_key: str, run_id: bytes, tags: Sequence[str]) -> list[Any]:
    pipeline = redis.pipeline(transaction=False)
    for tag in tags:
        names = [keys.in_slot(rebuild_key, tag), keys.in_slot(keys.REVOCATIONS_COMPLETE, tag)]
        mark_complete_script.add_to(pipeline, names, [run_id])
    return answers_of(pipeline)
