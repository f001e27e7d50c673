"""How the databases find rows: by indexes, on each of them."""

import uuid
from typing import Any

import pytest

from accounts.models import User
from sessions_api.models import Chunk, Manifest, Session, TrustPolicy
from sessions_api.tests.acts import begun

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
    plan = Session.objects.owned_by(owner.pk).order_by("-created_at", "pk").explain()

    assert "session_half_deleted" not in plan
    assert "COLLSCAN" not in plan
    assert "SCAN sessions_api" not in plan


def test_lists_are_put_in_order_by_an_index_alone(owner: User) -> None:
    own = Session.objects.owned_by(owner.pk)
    for sort in ("created_at", "updated_at", "name", "status"):
        plan = own.order_by(f"-{sort}", "pk").values("pk").explain()
        assert "COVERING INDEX session_" in plan or "IXSCAN" in plan
