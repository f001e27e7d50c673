"""What a worker looks at in the background, so that no request has to find out: is Redis slow, does it evict keys, and
with Sentinel, which server is the primary.
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
SLOW_ANSWERS = 5  # in a row are an outage
POLICY_EVERY = 20  # looks
SUBJECT = "eviction of Redis"
EVICTS = "Redis evicts keys (maxmemory-policy {}): a revoked token could work again. Set it to noeviction."


class RedisWatch:
    """One worker's watch."""

    def __init__(self) -> None:
        self.probe = Probe("PING")
        self.looks = 0
        self.slow = 0

    def look(self) -> None:
        """Look once."""
        self.follow_primary()
        if breaker.outage:
            self.slow = 0
            return
        with suppress(RedisUnavailable):  # the breaker says so
            self.look_at_speed()
            if self.looks % POLICY_EVERY == 0:
                look_at_policy()
            self.looks += 1

    def follow_primary(self) -> None:
        """Drop all connections when Sentinel names another primary: the old one may be hung, come back, and not know
        yet that it is no primary any more.
        """
        known = primary()
        before = known.address if known else None
        if known is None or before is None:
            return
        try:
            now = known.ask()
        except RedisConnectionError:
            return  # what is connected stays: without Sentinel there is no failover
        if now != before:
            logger.warning("Sentinel names another primary: %s:%s", *now)
            drop_connections()

    def look_at_speed(self) -> None:
        """Measure one answer; after several slow ones in a row do without Redis until it is fast again.

        Raises RedisUnavailable.
        """
        self.slow = 0 if breaker.call(self.probe) else self.slow + 1
        if self.slow == SLOW_ANSWERS:
            self.slow = 0
            reason = f"the last {SLOW_ANSWERS} answers took longer than {SLOW_SECONDS * 1000:.0f} ms"
            breaker.open(reason, fast_probes=FAST_PROBES_AFTER_SLOWNESS)


def look_at_policy() -> None:
    """Notice a server that may evict keys; raise RedisUnavailable."""
    policy = redis_call(lambda redis: redis.info("memory")).get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        advisories.take_back(SUBJECT)
    else:
        advisories.give(SUBJECT, EVICTS.format(policy))
