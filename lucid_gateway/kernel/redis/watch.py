"""The background check of Redis in each worker, so that no request has to discover a problem: whether Redis is slow,
whether it evicts keys and, with Sentinel, which server is the primary.
"""

import logging
from contextlib import suppress

from redis.exceptions import ConnectionError as RedisConnectionError

from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import (
    SLOW_SECONDS,
    Probe,
    RedisUnavailable,
    breaker,
    drop_connections,
    primary,
    redis_call,
)
from lucid_gateway.kernel.redis.breaker import FAST_PROBES_AFTER_SLOWNESS

logger = logging.getLogger(__name__)
EVERY_SECONDS = 0.5
SLOW_ANSWERS = 5  # this many in a row are an outage
POLICY_EVERY = 20  # checks
SUBJECT = "eviction of Redis"
EVICTS = "Redis evicts keys (maxmemory-policy {}): a revoked token could work again. Set it to noeviction."


class RedisWatch:
    def __init__(self) -> None:
        self.probe = Probe("PING")
        self.checks = 0
        self.slow = 0

    def check(self) -> None:
        self.follow_primary()
        if breaker.outage:
            self.slow = 0
            return
        with suppress(RedisUnavailable):  # the breaker logs it
            self.check_speed()
            if self.checks % POLICY_EVERY == 0:
                check_eviction_policy()
            self.checks += 1

    def follow_primary(self) -> None:
        """Drop all connections when Sentinel names another primary: the old one may hang, or may have come back without
        knowing that it has been replaced.
        """
        known = primary()
        before = known.address if known else None
        if known is None or before is None:
            return
        try:
            now = known.ask()
        except RedisConnectionError:
            return  # the connections stay: without Sentinel there is no failover
        if now != before:
            logger.warning("Sentinel names another primary: %s:%s", *now)
            drop_connections()

    def check_speed(self) -> None:
        """Time one answer; after several slow ones in a row, open the breaker until Redis is fast again.

        Raises RedisUnavailable.
        """
        self.slow = 0 if breaker.call(self.probe) else self.slow + 1
        if self.slow == SLOW_ANSWERS:
            self.slow = 0
            reason = f"the last {SLOW_ANSWERS} answers took longer than {SLOW_SECONDS * 1000:.0f} ms"
            breaker.open(reason, fast_probes=FAST_PROBES_AFTER_SLOWNESS)


def check_eviction_policy() -> None:
    """Warn the operator while the server may evict keys; raise RedisUnavailable."""
    policy = redis_call(lambda redis: redis.info("memory")).get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        advisories.clear(SUBJECT)
    else:
        advisories.set(SUBJECT, EVICTS.format(policy))
