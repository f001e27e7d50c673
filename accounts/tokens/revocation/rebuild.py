"""Rebuilding the revocations in Redis from the database, after a flush, a restart, a failover or an outage."""

import logging
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from django.db import connection

from accounts.tokens.revocation.cache import WantedRebuild, revocation_cache
from accounts.tokens.revocation.publishing import Entry, all_entries, in_chunks, publish, redis_now
from accounts.tokens.revocation.revisions import publish_from_database
from lucid_gateway.kernel.clock import database_now
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.exclusive_lease import end_lease, extend_lease, take_lease
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.policy import keys

logger = logging.getLogger(__name__)

mark_complete_script = RedisScript(Path(__file__).parent / "mark_complete.lua")
LEASE_MS = 5000
EXTEND_EVERY_SECONDS = 1.0
POLL_SECONDS = 0.05
REBUILD_LIFE_SECONDS = 600
NUMBERS_LIFE_SECONDS = 86_400


def try_to_rebuild() -> bool:
    """Return whether the cache is complete now, without waiting for another process.

    Of all processes that find it incomplete, or suspect it, one rebuilds it: a small cache at once, a large one in the
    background. Raises RedisUnavailable, also when the server was emptied meanwhile.
    """
    if time.monotonic() < revocation_cache.next_rebuild_at or not revocation_cache.rebuilding.acquire(blocking=False):
        return False
    handed_over = False
    try:
        wanted = revocation_cache.wanted_rebuild()
        if revocation_cache.is_complete(wanted):
            return True
        rebuild_key = take_turn()
        if rebuild_key is None:
            revocation_cache.next_rebuild_at = time.monotonic() + POLL_SECONDS
            return False
        chunks = in_chunks(all_entries(database_now()))
        first, second = next(chunks, []), next(chunks, None)
        if second is not None:
            handed_over = True
            thread = threading.Thread(
                target=rebuild_in_background, args=[rebuild_key, wanted], name="revocation-rebuild", daemon=True
            )
            thread.start()
            return False
        write_all(rebuild_key, wanted, first)
        return True
    finally:
        if not handed_over:
            revocation_cache.rebuilding.release()


def rebuild_in_background(rebuild_key: str, wanted: WantedRebuild) -> None:
    """Rebuild a large cache while requests go on; after a failure the next request tries again."""
    try:
        write_all(rebuild_key, wanted, all_entries(database_now()))
    except Exception as error:  # noqa: BLE001  # whatever it is, the next rebuild must be possible
        logger.warning("revocations not rebuilt in Redis", extra={"error": type(error).__name__})
    finally:
        revocation_cache.rebuilding.release()
        connection.close()


def rebuild() -> int:
    """Write all entries and mark the cache complete; return the number of entries.

    While another process rebuilds, waits for it and returns 0. Raises RedisUnavailable.
    """
    with revocation_cache.rebuilding:
        wanted = revocation_cache.wanted_rebuild()
        while not revocation_cache.is_complete(wanted):
            rebuild_key = take_turn()
            if rebuild_key is not None:
                return write_all(rebuild_key, wanted, all_entries(database_now()))
            time.sleep(POLL_SECONDS)
        return 0


def take_turn() -> str | None:
    """Return the key of a rebuild that may begin now, None while another is in progress; raise RedisUnavailable."""
    rebuild_key = keys.rebuild(uuid.uuid4().hex)
    return rebuild_key if take_lease(keys.REBUILD_LEASE, rebuild_key, milliseconds=LEASE_MS) else None


def write_all(rebuild_key: str, wanted: WantedRebuild, entries: Iterable[Entry]) -> int:
    """Write the entries and the marker, then end the turn; return the number of entries. Raises RedisUnavailable."""
    try:
        redis_call(lambda redis: redis.set(rebuild_key, 1, ex=REBUILD_LIFE_SECONDS))
        number = redis_call(lambda redis: redis.incr(keys.REBUILDS_BEGUN))
        redis_call(lambda redis: redis.expire(keys.REBUILDS_BEGUN, NUMBERS_LIFE_SECONDS))
        written, now, extended_at = 0, redis_now(), time.monotonic()
        for chunk in in_chunks(entries):
            publish(chunk, now=now)
            written += len(chunk)
            if time.monotonic() > extended_at + EXTEND_EVERY_SECONDS:
                extend_lease(keys.REBUILD_LEASE, rebuild_key, milliseconds=LEASE_MS)
                extended_at = time.monotonic()
        # Before the marker, which lets the edge serve the callers that it was taught.
        publish_from_database()
        if not mark_complete_script([rebuild_key, keys.REVOCATIONS_COMPLETE], [wanted.run_id]):
            raise RedisUnavailable("emptied during the rebuild")
        redis_call(lambda redis: redis.set(keys.REBUILDS_DONE, number, ex=NUMBERS_LIFE_SECONDS))
    finally:
        end_lease(keys.REBUILD_LEASE, rebuild_key)
    revocation_cache.trust(wanted)
    return written
