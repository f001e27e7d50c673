"""The constraints of the database: slots of sessions and policies, one chunk per index, one manifest per session."""

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from sessions_api.models import Chunk, Manifest, Session, TrustPolicy


def session(user: User, **fields: object) -> Session:
    return Session.objects.create(user=user, name="a session", **fields)


def test_a_slot_holds_one_active_session(owner: User, super_admin: User) -> None:
    session(owner, active_slot=1)
    session(owner, active_slot=2)
    session(super_admin, active_slot=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        session(owner, active_slot=1)


def test_ended_sessions_use_no_slot(owner: User) -> None:
    for _ in range(3):
        session(owner, status=Session.Status.COMPLETED)
    assert Session.objects.owned_by(owner.pk).count() == 3


def test_an_index_holds_one_chunk(owner: User) -> None:
    one, other = session(owner), session(owner)
    Chunk.objects.create(session=one, index=0, size=1)
    Chunk.objects.create(session=other, index=0, size=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Chunk.objects.create(session=one, index=0, size=2)


def test_chunks_are_ordered_without_a_join(owner: User) -> None:
    one = session(owner)
    for index in (1, 0):
        Chunk.objects.create(session=one, index=index, size=1)

    assert [chunk.index for chunk in Chunk.objects.filter(session=one)] == [0, 1]
    assert set(Chunk.objects.all().query.alias_map) <= {"sessions_api_chunk"}
    assert "sessions_api_session" not in str(Chunk.objects.filter(session=one).query).partition("FROM")[2]


def test_a_session_has_one_manifest(owner: User) -> None:
    fields = {"session": session(owner), "user": owner, "merkle_root": "0" * 64, "chunk_count": 1, "total_size": 1}
    Manifest.objects.create(**fields)
    with pytest.raises(IntegrityError), transaction.atomic():
        Manifest.objects.create(**fields)


def test_a_slot_holds_one_policy(owner: User) -> None:
    TrustPolicy.objects.create(user=owner, slot=0, name="a policy")
    with pytest.raises(IntegrityError), transaction.atomic():
        TrustPolicy.objects.create(user=owner, slot=0, name="another")
