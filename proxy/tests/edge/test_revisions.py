"""The revisions of keys and limits: when they change, for whom, and that Redis has them whenever it is complete."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis

from accounts.models import User
from accounts.tokens.keyring import keyring_cache
from accounts.tokens.revocation.rebuild import rebuild
from accounts.tokens.revocation.revisions import SHARDS, shard_of
from accounts.tokens.signing_keys import rotate
from lucid_gateway.policy import keys
from proxy.edge.revisions import WorkerRevisions
from ratelimit.ruling import set_limit_rule


@pytest.fixture
def revisions(settings: Any) -> WorkerRevisions:
    """The revisions of a worker behind an edge."""
    settings.ENV = settings.ENV.model_copy(update={"EDGE_SECRET": "e" * 40})
    return WorkerRevisions()


def published(redis: Redis) -> list[bytes | None]:
    """Return the keyring's revision in Redis, and that of each shard of the limits."""
    names = [keys.KEYRING_REVISION, *(keys.limits_revision(shard) for shard in range(SHARDS))]
    return redis.mget(names)


def test_a_rule_of_one_caller_changes_the_revision_of_one_shard(revisions: WorkerRevisions, owner: User) -> None:
    before = revisions.limits()

    set_limit_rule(tier="authenticated", subject=f"user:{owner.pk}", by="test", limit=3)

    after = revisions.limits()
    changed = [shard for shard in range(SHARDS) if before[shard] != after[shard]]
    assert changed == [shard_of(f"user:{owner.pk}")]


def test_a_rule_for_everyone_changes_every_revision(revisions: WorkerRevisions, db: None) -> None:
    set_limit_rule(tier="authenticated", subject=f"user:{uuid.uuid4()}", by="test", limit=3)
    before = revisions.limits()

    set_limit_rule(tier="authenticated", subject="", by="test", limit=3)

    assert all(old != new for old, new in zip(before, revisions.limits(), strict=True))


def test_the_end_of_a_rule_changes_the_revision(
    revisions: WorkerRevisions, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = revisions.limits()
    ends = timezone.now() + timedelta(hours=1)
    set_limit_rule(tier="authenticated", subject="", by="test", limit=3, expires_at=ends)
    assert revisions.limits() != before

    monkeypatch.setattr("django.utils.timezone.now", lambda: ends)
    monkeypatch.setattr("time.time", ends.timestamp)

    assert revisions.limits() == before


def test_the_end_of_a_signing_key_changes_the_revision(revisions: WorkerRevisions, db: None) -> None:
    keyring_cache.load()
    before = revisions.keyring()

    rotate("HS256", retire_now=True)
    keyring_cache.load()

    assert revisions.keyring() != before


def test_changes_are_published_and_nothing_else(revisions: WorkerRevisions, db: None, empty_redis: Redis) -> None:
    revisions.publish_changes()
    first = published(empty_redis)
    empty_redis.flushall()
    revisions.publish_changes()
    nothing = published(empty_redis)
    set_limit_rule(tier="authenticated", subject="", by="test", limit=3)
    revisions.publish_changes()

    assert None not in first
    assert set(nothing) == {None}
    assert None not in published(empty_redis)
    assert published(empty_redis)[1:] != first[1:]


def test_a_gateway_without_an_edge_publishes_nothing(
    revisions: WorkerRevisions, settings: Any, empty_redis: Redis
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EDGE_SECRET": ""})

    revisions.publish_changes()

    assert set(published(empty_redis)) == {None}


def test_a_rebuild_restores_the_revisions(revisions: WorkerRevisions, db: None, empty_redis: Redis) -> None:
    keyring_cache.load()
    set_limit_rule(tier="authenticated", subject="", by="test", limit=3)

    rebuild()

    expected = [revisions.keyring(), *revisions.limits()]
    assert published(empty_redis) == [value.encode() for value in expected]
