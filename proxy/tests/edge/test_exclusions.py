"""Routes that operators take off the edge: what is written, and how soon the snapshot says it."""

import json
from typing import Any

import pytest
from django.db import DatabaseError
from redis import Redis

from accounts.models import User
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import NotFound
from proxy.edge.exclusions import excluded_cache
from proxy.edge.publishing import Publisher
from proxy.models import EdgeExclusion
from proxy.operators.switching import put_back_on_edge, take_off_edge
from testing.parallel import in_parallel

WALLETS, ALL = "wallets/{rest*}", ""


def events() -> list[tuple[str, str, str]]:
    rows = AuditEvent.objects.filter(type__startswith="edge.").order_by("created_at")
    return [(row.type, row.subject, row.details.get("reason", "")) for row in rows]


@pytest.mark.parametrize(("path", "subject"), [(WALLETS, "/api/v1/wallets/{rest*}"), (ALL, "/api/v1/")])
def test_a_route_or_all_are_off_until_they_are_put_back(admin: User, path: str, subject: str) -> None:
    assert take_off_edge(path=path, reason="it answers twice", by=admin)
    assert excluded_cache.current == {path}

    assert put_back_on_edge(path=path, by=admin)
    assert excluded_cache.current == frozenset()
    assert events() == [("edge.off", subject, "it answers twice"), ("edge.on", subject, "")]
    assert set(AuditEvent.objects.filter(type__startswith="edge.").values_list("actor")) == {(str(admin.pk),)}


def test_what_is_off_already_keeps_its_reason(admin: User) -> None:
    take_off_edge(path=WALLETS, reason="first", by=admin)

    assert not take_off_edge(path=WALLETS, reason="second", by=admin)
    assert EdgeExclusion.objects.get().reason == "first"
    assert len(events()) == 1


def test_what_is_not_off_cannot_be_put_back(db: None) -> None:
    assert not put_back_on_edge(path=WALLETS, by="")
    assert events() == []


@pytest.mark.parametrize("path", ["nowhere", "/wallets", "sessions/{session_id}/chunks"])
def test_only_routes_of_the_edge_can_be_taken_off(db: None, path: str) -> None:
    with pytest.raises(NotFound):
        take_off_edge(path=path, reason="r", by="")
    assert not EdgeExclusion.objects.exists()


def test_a_route_stays_off_when_all_are_put_back(db: None) -> None:
    take_off_edge(path=WALLETS, reason="r", by="")
    take_off_edge(path=ALL, reason="r", by="")
    put_back_on_edge(path=ALL, by="")

    assert excluded_cache.current == {WALLETS}


@pytest.mark.django_db(transaction=True)
def test_of_operators_who_take_a_route_off_at_once_one_does_it() -> None:
    done = in_parallel(4, lambda number: take_off_edge(path=WALLETS, reason=f"{number}", by=""))

    assert sorted(done) == [False, False, False, True]
    assert len(events()) == 1


# The snapshot.


def published(redis: Redis) -> Any:
    return json.loads(redis.get(keys.edge_snapshot(gateway_name())) or b"{}").get("off")  # type: ignore[arg-type]


@pytest.fixture
def publisher(db: None, empty_redis: Redis) -> Publisher:
    """A worker that publishes."""
    publisher = Publisher()
    publisher.publish()
    return publisher


def test_the_worker_that_publishes_follows_a_change_by_another_worker_at_once(
    publisher: Publisher, empty_redis: Redis
) -> None:
    assert published(empty_redis) == []
    EdgeExclusion.objects.create(path=WALLETS, reason="r", created_by="")

    publisher.follow_exclusions()
    assert published(empty_redis) == [WALLETS]


def test_a_change_that_this_worker_has_read_otherwise_is_published_too(
    publisher: Publisher, empty_redis: Redis
) -> None:
    take_off_edge(path=ALL, reason="r", by="")

    publisher.follow_exclusions()
    assert published(empty_redis) == [ALL]


def test_a_worker_that_does_not_publish_reads_and_writes_nothing(
    publisher: Publisher, empty_redis: Redis, django_assert_num_queries: Any
) -> None:
    other = Publisher()
    other.publish()
    take_off_edge(path=ALL, reason="r", by="")

    with django_assert_num_queries(0):
        other.follow_exclusions()
    assert published(empty_redis) == []


def test_without_the_database_a_route_stays_off(
    publisher: Publisher, empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Any:
        raise DatabaseError("down")

    take_off_edge(path=WALLETS, reason="r", by="")
    monkeypatch.setattr(excluded_cache, "read", fail)
    with pytest.raises(DatabaseError):
        publisher.follow_exclusions()

    publisher.publish()
    assert published(empty_redis) == [WALLETS]
