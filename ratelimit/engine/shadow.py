"""Shadow mode: a limit or an address rule refuses nothing; what it would have refused is counted, and whom."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis import Redis

from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys

logger = logging.getLogger(__name__)
DAY = 86_400
KEPT_SECONDS = 7 * DAY
# Of each limit and rule, those with the most refusals are kept; one that was dropped starts again at zero.
MAX_SUBJECTS = 1_000
MAX_WAITING = 10_000


def note_shadow_refusal(tier_name: str, subject: str) -> None:
    """Count and log a request that a limit would have refused; while Redis is unavailable it is only logged."""
    logger.info("would have been refused", extra={"tier": tier_name, "subject": subject})

    key = keys.shadow_refusals(today())

    def count(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        pipeline.hincrby(key, tier_name, 1)
        pipeline.expire(key, KEPT_SECONDS)
        pipeline.execute()

    with suppress(RedisUnavailable):
        redis_call(key, count)
        count_subjects(tier_scope(tier_name), {name_of(subject): 1})


def shadow_refusals_today() -> dict[str, int]:
    """Return how many requests of each tier would have been refused today (UTC); raise RedisUnavailable."""
    # Any: redis-py's type covers clients that decode, too.
    key = keys.shadow_refusals(today())
    found: dict[Any, Any] = redis_call(key, lambda redis: redis.hgetall(key))
    return {name.decode(): int(count) for name, count in found.items()}


def tier_scope(tier_name: str) -> str:
    """Return the scope of a tier's limits."""
    return f"tier:{tier_name}"


def network_scope(network: str) -> str:
    """Return the scope of an address rule."""
    return f"network:{network}"


def shadow_subjects_today(scope: str, limit: int = 20) -> list[tuple[str, int]]:
    """Return whom the limit or rule would have refused most often today (UTC), with the counts; raise RedisUnavailable.

    A subject is `user:<id>`, `key:<id>` or `ip:<address>`. A request of a caller counts for an address rule twice: for
    its address and for its user or key.
    """
    key = keys.shadow_subjects(today(), scope)
    found: list[Any] = redis_call(key, lambda redis: redis.zrevrange(key, 0, limit - 1, withscores=True))
    return [(name.decode(), int(count)) for name, count in found]


def counts_today(subjects: Sequence[tuple[str, str]]) -> list[int]:
    """Return how many requests of each scope and subject would have been refused today; raise RedisUnavailable."""
    return [count_today(keys.shadow_subjects(today(), scope), subject) for scope, subject in subjects]


def count_today(key: str, subject: str) -> int:
    return int(redis_call(key, lambda redis: redis.zscore(key, subject)) or 0)


def count_subjects(scope: str, counts: Mapping[str, int]) -> None:
    """Add to the counts of subjects, and drop those with the fewest refusals if there are too many.

    Raises RedisUnavailable.
    """
    key = keys.shadow_subjects(today(), scope)

    def send(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        for name, count in counts.items():
            pipeline.zincrby(key, count, name)
        pipeline.zremrangebyrank(key, 0, -MAX_SUBJECTS - 1)
        pipeline.expire(key, KEPT_SECONDS)
        pipeline.execute()

    redis_call(key, send)


def name_of(subject: str) -> str:
    """Return the name of a subject of the limits (`policy.keys`), of a caller's bucket, or of an address."""
    name = subject.rpartition("}:")[2].strip("{}")
    return name if name.startswith(("user:", "key:", "ip:")) else f"ip:{name}"


def today() -> int:
    """Return the day since the epoch (UTC)."""
    return int(time.time()) // DAY


class ShadowSubjects:
    """Whom address rules in shadow mode would have refused in this process, not yet written to Redis."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], int] = {}

    def add(self, scope: str, name: str) -> None:
        """Count a request of the subject; above a maximum, new subjects are left out."""
        found = self.waiting.get((scope, name))
        if found is not None or len(self.waiting) < MAX_WAITING:
            self.waiting[scope, name] = (found or 0) + 1

    def write(self) -> None:
        """Add the counts to those of today; while Redis is unavailable they are lost."""
        if not self.waiting:
            return
        waiting, self.waiting = self.waiting, {}
        by_scope: dict[str, dict[str, int]] = {}
        for (scope, name), count in waiting.items():
            by_scope.setdefault(scope, {})[name] = count
        for scope, counts in by_scope.items():
            with suppress(RedisUnavailable):
                count_subjects(scope, counts)


shadow_subjects = ShadowSubjects()
