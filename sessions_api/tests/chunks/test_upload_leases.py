"""The lease on a chunk's row is renewed while the upload makes progress, and can be taken over once it has expired."""

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from sessions_api import upload_leases
from sessions_api.models import Chunk, Session
from sessions_api.upload_leases import ChunkInProgress, LeaseRenewer, Upload, renew
from sessions_api.uploads import accept_repeat, claim_index, discard, record_chunk

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def session(owner: User) -> Session:
    return Session.objects.create(user=owner, name="a session")


def begun(session: Session, index: int = 0) -> Upload:
    upload = claim_index(session.pk, index, 3)
    assert isinstance(upload, Upload)
    return upload


def end_lease(upload: Upload) -> None:
    upload.row().update(lease_until=timezone.now())
    upload.lease_safe_until = time.monotonic()


class Body:
    """The facts about a completely read body that recording needs."""

    size, length, expected_hash, hash = 3, 3, "", "ab" * 32

    def read_all(self) -> str:
        return self.hash


BODY: Any = Body()


def test_an_index_in_use_refuses_another_upload(session: Session) -> None:
    begun(session)
    with pytest.raises(ChunkInProgress) as refused:
        begun(session)
    assert 9 <= refused.value.details["retry_after"] <= 10
    begun(session, index=1)


def test_an_upload_with_an_expired_lease_is_taken_over_once(session: Session) -> None:
    first = begun(session)
    end_lease(first)
    second = begun(session)
    assert (second.chunk_id, second.row().count(), first.row().count()) == (first.chunk_id, 1, 0)
    with pytest.raises(ChunkInProgress):
        begun(session)


def test_an_upload_that_was_taken_over_sends_no_end_and_records_nothing(session: Session) -> None:
    first = begun(session)
    end_lease(first)
    second = begun(session)
    with pytest.raises(ChunkInProgress):
        first.confirm_lease()
    with pytest.raises(ChunkInProgress):
        record_chunk(first, BODY, "")
    discard(first)
    assert second.row().count() == 1


def test_an_upload_taken_over_by_the_same_content_succeeds(session: Session) -> None:
    first = begun(session)
    end_lease(first)
    recorded = record_chunk(begun(session), BODY, "").chunk
    done = record_chunk(first, BODY, "")
    assert (done.created, done.chunk.pk) == (False, recorded.pk)
    assert accept_repeat(recorded, BODY).chunk == recorded


def test_an_expired_lease_is_renewed_unless_it_was_taken_over(session: Session) -> None:
    upload = begun(session)
    end_lease(upload)
    upload.confirm_lease()
    with pytest.raises(ChunkInProgress):
        begun(session)


def test_leases_are_renewed_together(session: Session) -> None:
    uploads = [begun(session, index) for index in range(3)]
    for upload in uploads:
        end_lease(upload)
    renew(uploads)
    assert Chunk.objects.filter(lease_until__gt=timezone.now() + timedelta(seconds=9)).count() == 3
    assert all(upload.lease_safe_until > time.monotonic() + 9 for upload in uploads)


def test_a_lost_lease_makes_all_leases_uncertain(session: Session) -> None:
    uploads = [begun(session, index) for index in range(2)]
    for upload in uploads:
        end_lease(upload)
    begun(session, 1)
    renew(uploads)
    assert all(upload.lease_safe_until <= time.monotonic() for upload in uploads)


@pytest.mark.parametrize(("silent", "renewed"), [(False, True), (True, False)])
def test_only_uploads_with_progress_are_renewed(monkeypatch: pytest.MonkeyPatch, silent: bool, renewed: bool) -> None:
    seen: list[Upload] = []
    lease_renewer = LeaseRenewer(every=0.01)
    monkeypatch.setattr(upload_leases, "renew", seen.extend)
    upload = Upload(uuid.uuid4(), uuid.uuid4(), 0, "token")
    upload.note_progress(-1 if silent else 5)
    with lease_renewer.renewing(upload):
        deadline = time.monotonic() + (0.1 if silent else 5)
        while not seen and time.monotonic() < deadline:
            time.sleep(0.005)
    assert (upload in seen) is renewed
    assert lease_renewer.loop.wait(60)
