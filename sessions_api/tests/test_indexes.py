"""Each database finds and sorts rows by indexes."""

import uuid
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from sessions_api.models import Chunk, Manifest, Session, TrustPolicy
from sessions_api.tests.scenarios import new_session, record_chunks

UNKNOWN = uuid.uuid4()


def scans_the_table(rows: Any) -> bool:
    """Return whether the query plan reads the whole table."""
    plan = rows.explain()
    return "COLLSCAN" in plan or "SCAN sessions_api" in plan


@pytest.mark.parametrize("model", [Session, Chunk, Manifest, TrustPolicy])
def test_rows_are_found_by_the_index_of_their_key(db: None, model: Any) -> None:
    assert not scans_the_table(model.objects.filter(pk=UNKNOWN).order_by())
    assert not scans_the_table(model.objects.filter(pk__in=[UNKNOWN, uuid.uuid4()]).order_by())


def test_the_rows_of_a_session_are_found_by_an_index(db: None) -> None:
    assert not scans_the_table(Chunk.objects.filter(session__in=[UNKNOWN, uuid.uuid4()], state="recorded").order_by())
    assert not scans_the_table(Manifest.objects.filter(session_id=UNKNOWN).order_by())


def test_a_users_sessions_are_found_without_reading_those_of_others(owner: User, outsider: User) -> None:
    for _ in range(30):
        new_session(outsider)
    plan = Session.objects.owned_by(owner.pk).order_by("-created_at", "-pk").explain()

    assert "session_half_deleted" not in plan
    assert "COLLSCAN" not in plan
    assert "SCAN sessions_api" not in plan


def is_sorted_by_an_index(rows: Any) -> bool:
    """Return whether the query plan reads the rows in order, without a sort."""
    plan = rows.explain()
    if not settings.ON_MONGODB:
        return "USING" in plan and "TEMP B-TREE" not in plan
    return '"SORT"' not in plan[: plan.index('"rejectedPlans"')]


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "name"])
def test_a_list_of_sessions_is_sorted_by_an_index(owner: User, sort: str) -> None:
    for _ in range(30):
        new_session(owner)
    for sign in ("", "-"):
        assert is_sorted_by_an_index(Session.objects.owned_by(owner.pk).order_by(sign + sort, sign + "pk")[:5])


def test_a_list_of_chunks_is_sorted_by_an_index(owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, *range(1, 30))

    chunks = Chunk.objects.recorded().filter(session=session)
    assert is_sorted_by_an_index(chunks.order_by("index", "pk")[:5])
