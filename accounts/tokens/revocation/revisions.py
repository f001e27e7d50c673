"""The revisions of the signing keys and of the limits, on which rests what the edge was taught about a caller.

A revision is made from the content, so that all processes with the same keys and rules compute the same. The edge
compares those that it was taught with those in Redis, in the same gates as revocations.
"""

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from accounts.models import SigningKey
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys
from ratelimit.models import LimitRule
from ratelimit.rules import EVERYONE

# A change of one caller's limits concerns one in so many callers, who are taught again, not all of them.
SHARDS = 256


def shard_of(bucket: str) -> int:
    """Return the shard of a caller's limits; `bucket` is the caller's name in operators' rules."""
    return zlib.crc32(bucket.encode()) % SHARDS


def keyring_revision(rows: Iterable[tuple[str, str]]) -> str:
    """Return the revision of the signing keys, given the id and the state of each."""
    return digest(rows)


def limit_revisions(rules: Iterable[LimitRule]) -> list[str]:
    """Return the revision of each shard, made from its own rules and those for everyone."""
    of_shards: dict[int, list[Hashable]] = defaultdict(list)
    of_everyone: list[Hashable] = []
    for rule in rules:
        content = (
            rule.tier, rule.subject, rule.limit, rule.burst, rule.concurrent_requests, rule.daily_quota,
            rule.observe_only, rule.expires_at and rule.expires_at.timestamp(),
        )  # fmt: skip
        (of_everyone if rule.subject == EVERYONE else of_shards[shard_of(rule.subject)]).append(content)
    without_own = digest(of_everyone)
    return [digest(of_everyone, of_shards[shard]) if shard in of_shards else without_own for shard in range(SHARDS)]


def digest(*parts: Iterable[Hashable]) -> str:
    """Return 40 hexadecimal digits; the gates of `admit.lua` would take fewer for a number if none is a letter."""
    text = repr([sorted(map(repr, part)) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def publish_revisions(server: Server, keyring: str, limits: Sequence[str]) -> None:
    """Write the revisions to a Redis server; raise RedisUnavailable.

    A master of a cluster has them in one hash, as the callers of all of its slots need them.
    """
    values: dict[Any, Any] = {keys.limits_revision(shard): revision for shard, revision in enumerate(limits)}
    values[keys.KEYRING_REVISION] = keyring
    if server.is_cluster_node:
        name = keys.in_slot(keys.REVISIONS, server.home)
        server.call(lambda redis: redis.hset(name, mapping=values))
    else:
        server.call(lambda redis: redis.mset(values))


def publish_from_database(server: Server) -> None:
    """Write the revisions of what the database has now; raise RedisUnavailable or django.db.Error."""
    keyring = keyring_revision(SigningKey.objects.usable().values_list("kid", "state"))
    publish_revisions(server, keyring, limit_revisions(LimitRule.objects.in_force()))
