"""Reservations: never less than the chunks use, whatever happens between two statements."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from lucid_gateway.policy.errors import NotFound, SessionTooLarge, WrongSessionState
from sessions_api import reservations
from sessions_api.models import Chunk, Session
from sessions_api.reservations import give_back, reserve, version_of

MIB = 1024 * 1024


@pytest.fixture
def session(owner: User) -> Session:
    return Session.objects.create(user=owner, name="a session", max_size_bytes=MIB)


def row(session: Session, size: int, *, index: int = 0, seconds: float = 60) -> Chunk:
    """Return the row of an upload whose lease ends in `seconds`."""
    until = timezone.now() + timedelta(seconds=seconds)
    return Chunk.objects.create(session=session, index=index, size=size, upload=uuid.uuid4().hex, lease_until=until)


def held(session: Session, size: int, *, index: int = 0) -> Chunk:
    """Return the row of an upload that has reserved its bytes."""
    made = row(session, size, index=index)
    assert reserve(session.pk, owner=session.user_id, size=size, minimum=size, own_chunk_id=made.pk) == size
    return made


def reserved(session: Session) -> int:
    session.refresh_from_db()
    return session.reserved_bytes


def test_a_reservation_is_added(session: Session) -> None:
    held(session, 1000)
    held(session, MIB - 1000, index=1)
    assert reserved(session) == MIB


def test_nothing_is_reserved_over_the_limit(session: Session) -> None:
    held(session, MIB - 9)
    with pytest.raises(SessionTooLarge) as refused:
        held(session, 10, index=1)
    assert refused.value.details == {"room_bytes": 9, "max_size_bytes": MIB}
    assert reserved(session) == MIB - 9


def test_the_remaining_space_is_reserved_if_it_is_enough(session: Session) -> None:
    held(session, MIB - 9)
    assert (
        reserve(session.pk, owner=session.user_id, size=1000, minimum=1, own_chunk_id=row(session, 1000, index=1).pk)
        == 9
    )
    assert reserved(session) == MIB


@pytest.mark.parametrize("fields", [{"status": "completed"}, {"status": "failed"}])
def test_only_an_active_session_accepts_reservations(session: Session, fields: dict[str, str]) -> None:
    Session.objects.filter(pk=session.pk).update(**fields)
    with pytest.raises(WrongSessionState):
        held(session, 1)


def test_a_deleted_session_is_not_found(session: Session) -> None:
    Session.objects.filter(pk=session.pk).update(deleted_at=timezone.now())
    with pytest.raises(NotFound):
        held(session, 1)


def test_a_recount_finds_excess_reservations(session: Session) -> None:
    held(session, 10)
    Session.objects.filter(pk=session.pk).update(reserved_bytes=MIB)
    held(session, 20, index=1)
    assert reserved(session) == 30


def test_a_recount_removes_abandoned_uploads(session: Session) -> None:
    abandoned = held(session, MIB)
    Chunk.objects.filter(pk=abandoned.pk).update(lease_until=timezone.now())
    held(session, 20, index=1)
    assert reserved(session) == 20
    assert Chunk.objects.filter(session=session).count() == 1


def at_the_sum(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call `act` once, right after a recount has added up the rows."""
    count = reservations.taken_by_others

    def counted(session_id: uuid.UUID, own: uuid.UUID) -> int:
        found = count(session_id, own)
        monkeypatch.setattr(reservations, "taken_by_others", count)
        act()
        return found

    monkeypatch.setattr(reservations, "taken_by_others", counted)


def test_a_recount_loses_no_concurrent_reservation(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    Session.objects.filter(pk=session.pk).update(reserved_bytes=MIB - 10)
    at_the_sum(monkeypatch, lambda: held(session, 10, index=1))
    held(session, 20)
    assert reserved(session) == 30


def test_a_recount_notices_changes_that_restore_the_counter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    going = held(session, 10, index=2)
    Session.objects.filter(pk=session.pk).update(reserved_bytes=MIB - 5)
    gone = version_of(session.pk)
    going.delete()

    def exchange() -> None:
        give_back(session.pk, size=10, version=gone)
        held(session, 10, index=1)

    at_the_sum(monkeypatch, exchange)
    held(session, 20)
    assert reserved(session) == 30


def test_bytes_are_returned(session: Session) -> None:
    held(session, 10)
    give_back(session.pk, size=10, version=version_of(session.pk))
    assert reserved(session) == 0


def test_a_concurrent_reservation_turns_a_return_into_a_recount(session: Session) -> None:
    going = held(session, 10)
    version = version_of(session.pk)
    going.delete()
    held(session, 20, index=1)
    give_back(session.pk, size=10, version=version)
    assert reserved(session) == 20


def test_bytes_that_a_recount_left_out_are_not_returned_again(session: Session) -> None:
    going, staying = held(session, 10), held(session, 20, index=1)
    version = version_of(session.pk)
    going.delete()
    Session.objects.filter(pk=session.pk).update(reserved_bytes=MIB)
    held(session, 5, index=2)  # recounts
    give_back(session.pk, size=10, version=version)
    assert reserved(session) == staying.size + 5
