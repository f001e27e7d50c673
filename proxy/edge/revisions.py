"""The revisions of the keys and limits that this worker has in memory."""

import math
import time
from contextlib import suppress

from django.conf import settings

from accounts.tokens.keyring import keyring_cache
from accounts.tokens.revocation.revisions import keyring_revision, limit_revisions, publish_revisions, shard_of
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import RedisUnavailable, servers
from lucid_gateway.kernel.redis.server import Server
from ratelimit.models import is_past
from ratelimit.rules import Rules, rules_cache

REPEAT_SECONDS = 30.0


class WorkerRevisions:
    """The revisions of this worker. It publishes them when they change, and twice a minute: a worker that read the
    database earlier may have published later.
    """

    def __init__(self) -> None:
        self.rules: Rules | None = None
        self.of_shards: list[str] = []
        self.current_until = 0.0  # epoch seconds
        self.published: tuple[str, list[str], list[str]] | None = None
        self.repeat_at = 0.0

    def keyring(self) -> str:
        """Return the revision of the keys that verify tokens here."""
        return keyring_revision(keyring_cache.rows)

    def limits(self) -> list[str]:
        """Return the revision of each shard of the limits; computed when the rules change or one of them ends."""
        if self.rules is not rules_cache.current or time.time() >= self.current_until:
            self.rules = rules_cache.current
            in_force = [rule for rule in self.rules.limits.values() if not is_past(rule.expires_at)]
            self.of_shards = limit_revisions(in_force)
            ends = (rule.expires_at.timestamp() for rule in in_force if rule.expires_at is not None)
            self.current_until = min(ends, default=math.inf)
        return self.of_shards

    def limits_of(self, caller: Caller) -> str:
        """Return the revision of the caller's limits."""
        return self.limits()[shard_of(caller.bucket)]

    def publish_changes(self) -> None:
        """Publish what has changed, if there is an edge; while Redis is unavailable, the next call tries again."""
        to = servers()
        keyring, limits = self.keyring(), self.limits()
        current = keyring, limits, [server.home for server in to]
        if not settings.ENV.EDGE_SECRET or (current == self.published and time.monotonic() < self.repeat_at):
            return
        available = [try_to_publish(server, keyring, limits) for server in to]
        if all(available):
            self.published, self.repeat_at = current, time.monotonic() + REPEAT_SECONDS


def try_to_publish(server: Server, keyring: str, limits: list[str]) -> bool:
    """Publish the revisions to a Redis server; return whether it is available."""
    with suppress(RedisUnavailable):
        publish_revisions(server, keyring, limits)
        return True
    return False


worker_revisions = WorkerRevisions()
