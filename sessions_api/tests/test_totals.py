"""The totals of a session before and after its end."""

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from sessions_api.models import Chunk, Session
from sessions_api.tests.scenarios import (
    ENDED,
    SessionsClient,
    completed_session,
    new_session,
    record_chunks,
    uploading_chunk,
)
from sessions_api.totals import Totals, settle, totals_of
from testing.database_work import database_work
from testing.parallel import in_parallel


def stored(session: Session) -> tuple[int, int, bool]:
    row = Session.objects.get(pk=session.pk)
    return row.size_bytes, row.chunk_count, row.settled


def test_totals_count_recorded_chunks_only(owner: User) -> None:
    one, other, empty = new_session(owner), new_session(owner), new_session(owner)
    record_chunks(one, 10, 20)
    record_chunks(other, 5)
    uploading_chunk(one)

    assert totals_of([one, other, empty]) == {one.pk: Totals(30, 2), other.pk: Totals(5, 1), empty.pk: Totals()}


def test_totals_come_from_an_index(owner: User) -> None:
    sessions = [new_session(owner), new_session(owner)]
    for session in sessions:
        record_chunks(session, *range(1, 30))

    with database_work() as work, CaptureQueriesContext(connection) as queries:
        totals_of(sessions)

    assert work.documents == 0
    if settings.ON_MONGODB:
        assert "'chunks': {'$sum': 1}" in queries[0]["sql"]


def test_a_settled_session_keeps_its_stored_totals(owner: User) -> None:
    session = completed_session(owner, settled=True, size_bytes=7, chunk_count=3)
    record_chunks(session, 100)

    assert totals_of([session]) == {session.pk: Totals(7, 3)}


def test_an_active_session_is_not_settled(owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, 10)

    assert not settle(session)
    assert (session.size_bytes, stored(session)) == (10, (0, 0, False))


def test_an_ended_session_is_settled_once_its_last_upload_has_ended(owner: User) -> None:
    session = completed_session(owner)
    record_chunks(session, 10)
    chunk = uploading_chunk(session)
    assert not settle(session)

    Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.RECORDED)
    assert settle(session)
    assert stored(session) == (17, 2, True)


def test_settling_removes_uploads_that_lost_their_lease(owner: User) -> None:
    session = completed_session(owner)
    late = uploading_chunk(session, ENDED)

    assert settle(session)
    assert Chunk.objects.filter(pk=late.pk, upload=late.upload).update(state=Chunk.State.RECORDED) == 0
    assert stored(session) == (0, 0, True)


def test_an_upload_without_a_lease_counts_as_abandoned(owner: User) -> None:
    session = completed_session(owner)
    Chunk.objects.create(session=session, index=0, size=5)

    assert settle(session)
    assert not Chunk.objects.exists()


def test_settling_changes_no_other_session(owner: User) -> None:
    session, other = completed_session(owner), new_session(owner)
    uploading_chunk(other, ENDED)

    assert settle(session)
    assert (other.chunks.count(), stored(other)) == (1, (0, 0, False))


@pytest.mark.usefixtures("transactional_db")
def test_concurrent_settling_stores_the_totals_once(owner: User) -> None:
    session = completed_session(owner)
    record_chunks(session, 1, 2, 3)

    assert all(in_parallel(6, lambda _: settle(Session.objects.get(pk=session.pk))))
    assert stored(session) == (6, 3, True)


def test_a_read_settles_a_session_that_its_end_could_not_settle(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, 10)
    chunk = uploading_chunk(session)
    assert as_owner.request("patch", session, {"status": "completed"}).json()["chunk_count"] == 1
    assert not stored(session)[2]

    Chunk.objects.filter(pk=chunk.pk).update(state=Chunk.State.RECORDED)
    assert as_owner.all().json()["sessions"][0]["size_bytes"] == 17
    assert stored(session) == (17, 2, True)
