"""GET /sessions/{session_id}/chunks and .../{chunk_id}, for the owner and staff, without reading all rows."""

import datetime
import re
import uuid

import pytest
from bson import SON
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code
from sessions_api.models import Chunk, Session


@pytest.fixture
def session(owner: User) -> Session:
    """A session with 25 recorded chunks and one that is being uploaded."""
    made = Session.objects.create(user=owner, name="a session")
    Chunk.objects.create(session=made, index=99, size=1, state="uploading")
    for index in reversed(range(25)):
        Chunk.objects.create(session=made, index=index, size=index + 1, hash=f"{index:064}", state="recorded")
    return made


def indexes(response: object) -> list[int]:
    return [chunk["index"] for chunk in response.json()["chunks"]]  # type: ignore[attr-defined]


def test_chunks_are_listed_by_their_index(api: ApiClient, session: Session, tokens: TokenPair) -> None:
    first = api.send("get", f"/sessions/{session.pk}/chunks", token=tokens.access)
    assert indexes(first) == list(range(20))
    assert first.json()["pagination"] == {"page": 1, "limit": 20, "total": 25, "pages": 2}
    last = api.send("get", f"/sessions/{session.pk}/chunks?sort=-index&limit=10&page=3", token=tokens.access)
    assert indexes(last) == [4, 3, 2, 1, 0]


@pytest.mark.parametrize("query", ["sort=size", "page=0", "limit=101"])
def test_an_unsupported_list_query_is_refused(api: ApiClient, session: Session, tokens: TokenPair, query: str) -> None:
    response = api.send("get", f"/sessions/{session.pk}/chunks?{query}", token=tokens.access)
    assert response.status_code == 422


def test_a_chunk_has_a_tag(api: ApiClient, session: Session, tokens: TokenPair) -> None:
    chunk = Chunk.objects.get(session=session, index=3)
    path = f"/sessions/{session.pk}/chunks/{chunk.pk}"
    first = api.send("get", path, token=tokens.access)
    assert (first.json()["size"], first["ETag"]) == (4, f'"{chunk.hash}"')
    again = api.send("get", path, token=tokens.access, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = api.send("get", path, token=tokens.access, headers={"If-Match": '"other"'})
    assert (other.status_code, error_code(other)) == (412, "4003")


@pytest.mark.parametrize("of", ["upload", "other session", "nobody"])
def test_only_recorded_chunks_of_the_session_are_found(
    api: ApiClient, session: Session, owner: User, tokens: TokenPair, of: str
) -> None:
    other = Session.objects.create(user=owner, name="another")
    made = Chunk.objects.create(session=other, index=0, size=1, hash="0" * 64, state="recorded")
    keys = {"upload": Chunk.objects.get(index=99).pk, "other session": made.pk, "nobody": uuid.uuid4()}
    assert error_code(api.send("get", f"/sessions/{session.pk}/chunks/{keys[of]}", token=tokens.access)) == "4001"


def test_staff_may_read_chunks_and_other_users_find_none(
    api: ApiClient, session: Session, node_operator: User, super_admin: User
) -> None:
    chunk = Chunk.objects.get(session=session, index=0)
    for path in (f"/sessions/{session.pk}/chunks", f"/sessions/{session.pk}/chunks/{chunk.pk}"):
        assert error_code(api.send("get", path, token=issue_tokens(node_operator).access)) == "4001"
        assert api.send("get", path, token=issue_tokens(super_admin).access).status_code == 200


@pytest.mark.parametrize("path", ["/sessions/1/chunks", "/sessions/1/chunks/0b54c3de-9a3f-4f0e-8f5e-9d3d2c1c7a10"])
def test_an_invalid_uuid_is_reported(api: ApiClient, tokens: TokenPair, path: str) -> None:
    assert error_code(api.send("get", path, token=tokens.access)) == "1005"


def test_reading_chunks_scans_no_table_and_joins_none(api: ApiClient, session: Session, tokens: TokenPair) -> None:
    chunk = Chunk.objects.get(session=session, index=0)
    with CaptureQueriesContext(connection) as queries:
        for path in (f"/sessions/{session.pk}/chunks", f"/sessions/{session.pk}/chunks/{chunk.pk}"):
            assert api.send("get", path, token=tokens.access).status_code == 200
    asked = [query["sql"] for query in queries if "sessions_api_" in query["sql"]]
    assert len(asked) == 5  # session, count, page; session, chunk
    steps = [step for text in asked for step in (mongodb_plan if settings.ON_MONGODB else sqlite_plan)(text)]
    assert steps
    assert not [step for step in steps if step.startswith(("SCAN", "COLLSCAN")) or "TEMP B-TREE" in step]
    assert not [text for text in asked if "JOIN" in text or "$lookup" in text]


def sqlite_plan(text: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {text}")
        return [row[3] for row in cursor.fetchall()]


def mongodb_plan(text: str) -> list[str]:
    """Return the stages of the plan for a captured statement, which reads db.collection.aggregate([...])."""
    match = re.fullmatch(r"db\.(\w+)\.aggregate\((.*)\)", text)
    assert match
    pipeline = eval(match[2], {"SON": SON, "Chunk": Chunk, "datetime": datetime})  # our own statement
    asked = {"aggregate": match[1], "pipeline": pipeline, "cursor": {}}
    plan = connection.database.command("explain", asked, verbosity="queryPlanner")  # type: ignore[attr-defined]
    return re.findall(r"'stage': '(\w+)'", str(plan))
