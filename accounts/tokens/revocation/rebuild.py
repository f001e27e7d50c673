"""Whether the copy in Redis is whole, and building it anew.

The copy counts only while its marker is there and names the running server. After a flush, a restart, a failover or
an outage it is built anew from the database. Until it is whole, requests ask the database: none waits for a build.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from django.db import connection

from accounts.tokens.revocation.cache import Goal, copy
from accounts.tokens.revocation.publishing import Entry, all_entries, in_chunks, publish, redis_now
from lucid_gateway.kernel.clock import database_now
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.kernel.redis.exclusive_lease import end_lease, extend_lease, take_lease
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.policy import keys

logger = logging.getLogger(__name__)

mark_complete_script = RedisScript(Path(__file__).parent / "mark_complete.lua")
BUILDER_LIFE_MS = 5000
EXTEND_EVERY_SECONDS = 1.0
BUILDER_POLL_SECONDS = 0.05
BUILD_LIFE_SECONDS = 600
COUNTERS_LIFE_SECONDS = 86_400


def restore() -> bool:
    """Return whether the copy is whole by now, without waiting for anybody.

    Of all that find it gone, or doubt it after an outage, one builds: a small copy at once, a large one in the
    background. Raises RedisUnavailable, also when somebody emptied the server meanwhile.
    """
    if time.monotonic() < copy.asked_again_at or not copy.building.acquire(blocking=False):
        return False
    handed_over = False
    try:
        goal = copy.aim()
        if copy.is_built(goal):
            return True
        build = take_turn()
        if build is None:
            copy.asked_again_at = time.monotonic() + BUILDER_POLL_SECONDS
            return False
        chunks = in_chunks(all_entries(database_now()))
        first, second = next(chunks, []), next(chunks, None)
        if second is not None:
            handed_over = True
            threading.Thread(target=build_behind, args=[build, goal], name="blacklist-build", daemon=True).start()
            return False
        build_copy(build, goal, first)
        return True
    finally:
        if not handed_over:
            copy.building.release()


def build_behind(build: str, goal: Goal) -> None:
    """Build a large copy beside the requests; one that fails is tried again by the next request."""
    try:
        build_copy(build, goal, all_entries(database_now()))
    except Exception as error:  # noqa: BLE001  # whatever it is, the next build must be possible
        logger.warning("copy of the blacklist not built", extra={"error": type(error).__name__})
    finally:
        copy.building.release()
        connection.close()


def rebuild() -> int:
    """Write the whole copy and mark it complete; return the number of entries, 0 if another worker or gateway did so,
    which is waited for. Raises RedisUnavailable.
    """
    with copy.building:
        goal = copy.aim()
        while not copy.is_built(goal):
            build = take_turn()
            if build is not None:
                return build_copy(build, goal, all_entries(database_now()))
            time.sleep(BUILDER_POLL_SECONDS)
        return 0


def take_turn() -> str | None:
    """Return the id of a build that may begin now, None while another is under way."""
    build = keys.copy_build(uuid.uuid4().hex)
    return build if take_lease(keys.COPY_BUILDER, build, milliseconds=BUILDER_LIFE_MS) else None


def build_copy(build: str, goal: Goal, entries: Iterable[Entry]) -> int:
    """Write the entries and the marker, which ends the turn; return how many entries there were."""
    try:
        redis_call(lambda redis: redis.set(build, 1, ex=BUILD_LIFE_SECONDS))
        number = redis_call(lambda redis: redis.incr(keys.COPY_BUILDS_BEGUN))
        redis_call(lambda redis: redis.expire(keys.COPY_BUILDS_BEGUN, COUNTERS_LIFE_SECONDS))
        written, now, extended_at = 0, redis_now(), time.monotonic()
        for chunk in in_chunks(entries):
            publish(chunk, now=now)
            written += len(chunk)
            if time.monotonic() > extended_at + EXTEND_EVERY_SECONDS:
                extend_lease(keys.COPY_BUILDER, build, milliseconds=BUILDER_LIFE_MS)
                extended_at = time.monotonic()
        if not mark_complete_script([build, keys.COPY_MARKER], [goal.run_id]):
            raise RedisUnavailable("emptied while the copy was built")
        redis_call(lambda redis: redis.set(keys.COPY_BUILDS_DONE, number, ex=COUNTERS_LIFE_SECONDS))
    finally:
        end_lease(keys.COPY_BUILDER, build)
    copy.settle(goal)
    return written
