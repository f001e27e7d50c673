"""How the databases find rows: by indexes, on each of them."""

import uuid
from typing import Any

import pytest
from django.conf import settings

from accounts.models import User
from sessions_api.models import Chunk, Manifest, Session, TrustPolicy
from sessions_api.tests.acts import begun, recorded

UNKNOWN = uuid.uuid4()


def looks_at_all_rows(rows: Any) -> bool:
    """Return whether the database goes through the whole table."""
    plan = rows.explain()
    return "COLLSCAN" in plan or "SCAN sessions_api" in plan


@pytest.mark.parametrize("model", [Session, Chunk, Manifest, TrustPolicy])
def test_rows_are_found_by_their_keys(db: None, model: Any) -> None:
    assert not looks_at_all_rows(model.objects.filter(pk=UNKNOWN).order_by())
    assert not looks_at_all_rows(model.objects.filter(pk__in=[UNKNOWN, uuid.uuid4()]).order_by())


def test_what_belongs_to_a_session_is_found(db: None) -> None:
    assert not looks_at_all_rows(Chunk.objects.filter(session__in=[UNKNOWN, uuid.uuid4()], state="recorded").order_by())
    assert not looks_at_all_rows(Manifest.objects.filter(session_id=UNKNOWN).order_by())


def test_a_users_sessions_are_found_without_those_of_others(owner: User, outsider: User) -> None:
    for _ in range(30):
        begun(outsider)
    plan = Session.objects.owned_by(owner.pk).order_by("-created_at", "-pk").explain()

    assert "session_half_deleted" not in plan
    assert "COLLSCAN" not in plan
    assert "SCAN sessions_api" not in plan


def in_order_of_an_index(rows: Any) -> bool:
    """Return whether the database reads the rows in their order and sorts nothing."""
    plan = rows.explain()
    if not settings.ON_MONGODB:
        return "USING" in plan and "TEMP B-TREE" not in plan
    return '"SORT"' not in plan[: plan.index('"rejectedPlans"')]


@pytest.mark.parametrize("sort", ["created_at", "updated_at", "name"])
def test_a_list_of_sessions_comes_in_the_order_of_an_index(owner: User, sort: str) -> None:
    for _ in range(30):
        begun(owner)
    for sign in ("", "-"):
        assert in_order_of_an_index(Session.objects.owned_by(owner.pk).order_by(sign + sort, sign + "pk")[:5])


def test_a_list_of_chunks_comes_in_the_order_of_an_index(owner: User) -> None:
    session = begun(owner)
    recorded(session, *range(1, 30))

    chunks = Chunk.objects.recorded().filter(session=session)
    assert in_order_of_an_index(chunks.order_by("index", "pk")[:5])
