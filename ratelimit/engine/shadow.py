"""Shadow mode: a limit refuses nothing; what it would have refused is counted and logged."""

import logging
import time
from contextlib import suppress
from typing import Any

from redis import Redis

from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys

logger = logging.getLogger(__name__)
KEPT_SECONDS = 7 * 86_400


def note_shadow_refusal(tier_name: str, subject: str) -> None:
    """Count and log a request that would have been refused; while Redis is unavailable it is only logged."""
    logger.info("would have been refused", extra={"tier": tier_name, "subject": subject})

    def count(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        key = keys.shadow_refusals(int(time.time()) // 86_400)
        pipeline.hincrby(key, tier_name, 1)
        pipeline.expire(key, KEPT_SECONDS)
        pipeline.execute()

    with suppress(RedisUnavailable):
        redis_call(count)


def shadow_refusals_today() -> dict[str, int]:
    """Return how many requests of each tier would have been refused today (UTC); raise RedisUnavailable."""
    # Any: redis-py's type covers clients that decode, too.
    found: dict[Any, Any] = redis_call(lambda redis: redis.hgetall(keys.shadow_refusals(int(time.time()) // 86_400)))
    return {name.decode(): int(count) for name, count in found.items()}
