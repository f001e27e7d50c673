"""The page of a session shows its refused uploads, with their reasons."""

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tests.operators import signed_in
from lucid_gateway.console import session_page
from lucid_gateway.explorer.tests.stage import kept
from sessions_api.lifecycle import create_session
from sessions_api.models import Session


@pytest.fixture
def session(owner: User) -> Session:
    return create_session(owner.pk, name="a recording")


def shown(session: Session, admin: User) -> str:
    response = signed_in(admin).get(f"/admin/sessions_api/session/{session.pk}/change/")
    assert response.status_code == 200
    return str(response.content.decode()).partition('id="refused"')[2].partition("</section>")[0]


def uploads_of(session: Session) -> str:
    return f"/api/v1/sessions/{session.pk}/chunks"


def test_a_refused_upload_is_shown_with_its_reason_and_leads_to_its_page(session: Session, admin: User) -> None:
    path, details = uploads_of(session), {"facts": {"fields": [["X-Chunk-SHA256", "mismatch"]]}}
    row = kept(path=path, reason="invalid_data", status=422, request_id="refused-1", details=details)
    kept(path=path, status=201, request_id="answered-1")
    kept(path="/api/v1/sessions/another/chunks", reason="invalid_data", status=422, request_id="other-1")

    text = shown(session, admin)
    assert "The request data is not valid. The problem: X-Chunk-SHA256 (mismatch)." in text
    assert f'href="/admin/requests/refused-1/?row={row.pk}"' in text
    assert f'href="/admin/requests/?path=%2Fapi%2Fv1%2Fsessions%2F{session.pk}%2Fchunks"' in text
    assert "answered-1" not in text
    assert "other-1" not in text


def test_without_refused_uploads_the_page_says_so(session: Session, admin: User) -> None:
    assert "No refused upload of this session was kept lately." in shown(session, admin)


def test_the_page_works_while_the_requests_cannot_be_read(
    session: Session, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> list[str]:
        raise DatabaseError

    monkeypatch.setattr(session_page, "refused_uploads", fail)
    assert "The refused uploads are unknown" in shown(session, admin)


def test_the_page_takes_the_same_number_of_queries_for_any_number_of_refused_uploads(
    session: Session, admin: User
) -> None:
    client, counts = signed_in(admin), []
    for _ in range(3):
        kept(path=uploads_of(session), reason="invalid_data", status=422, user_id=str(session.user_id))
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/admin/sessions_api/session/{session.pk}/change/")
        counts.append(len(queries))
    assert counts[1] == counts[2]
