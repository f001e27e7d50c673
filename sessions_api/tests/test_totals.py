"""How many bytes and chunks a session has, before and after it is over."""

import pytest

from accounts.models import User
from sessions_api.models import Chunk, Session
from sessions_api.tests.acts import ENDED, Sessions, begun, over, recorded, uploading
from sessions_api.totals import Totals, settle, totals_of
from testing.parallel import in_parallel


def stored(session: Session) -> tuple[int, int, bool]:
    row = Session.objects.get(pk=session.pk)
    return row.size_bytes, row.chunk_count, row.settled


def test_recorded_chunks_count_and_those_under_way_do_not(owner: User) -> None:
    one, other, empty = begun(owner), begun(owner), begun(owner)
    recorded(one, 10, 20)
    recorded(other, 5)
    uploading(one)

    assert totals_of([one, other, empty]) == {one.pk: Totals(30, 2), other.pk: Totals(5, 1), empty.pk: Totals()}


def test_a_settled_session_has_what_is_stored(owner: User) -> None:
    session = over(owner, settled=True, size_bytes=7, chunk_count=3)
    recorded(session, 100)

    assert totals_of([session]) == {session.pk: Totals(7, 3)}


def test_an_active_session_is_not_settled(owner: User) -> None:
    session = begun(owner)
    recorded(session, 10)

    assert not settle(session)
    assert (session.size_bytes, stored(session)) == (10, (0, 0, False))


def test_a_session_that_is_over_is_settled_once_no_upload_is_under_way(owner: User) -> None:
    session = over(owner)
    recorded(session, 10)
    chunk = uploading(session)
    assert not settle(session)

    Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.RECORDED)
    assert settle(session)
    assert stored(session) == (17, 2, True)


def test_an_upload_that_lost_its_lease_can_be_recorded_no_more(owner: User) -> None:
    session = over(owner)
    late = uploading(session, ENDED)

    assert settle(session)
    assert Chunk.objects.filter(pk=late.pk, upload=late.upload).update(state=Chunk.State.RECORDED) == 0
    assert stored(session) == (0, 0, True)


def test_an_upload_without_a_lease_is_no_upload(owner: User) -> None:
    session = over(owner)
    Chunk.objects.create(session=session, index=0, size=5)

    assert settle(session)
    assert not Chunk.objects.exists()


def test_settling_touches_no_other_session(owner: User) -> None:
    session, other = over(owner), begun(owner)
    uploading(other, ENDED)

    assert settle(session)
    assert (other.chunks.count(), stored(other)) == (1, (0, 0, False))


@pytest.mark.usefixtures("transactional_db")
def test_settling_from_many_sides_is_settling_once(owner: User) -> None:
    session = over(owner)
    recorded(session, 1, 2, 3)

    assert all(in_parallel(6, lambda _: settle(Session.objects.get(pk=session.pk))))
    assert stored(session) == (6, 3, True)


def test_reading_settles_what_the_end_could_not(mine: Sessions, owner: User) -> None:
    session = begun(owner)
    recorded(session, 10)
    chunk = uploading(session)
    assert mine.ask("patch", session, {"status": "completed"}).json()["chunk_count"] == 1
    assert not stored(session)[2]

    Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.RECORDED)
    assert mine.all().json()["sessions"][0]["size_bytes"] == 17
    assert stored(session) == (17, 2, True)
