"""/manifests: one for each completed session, over all its chunks, for its owner."""

import hashlib
import re
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pymerkle import InmemoryTree

from accounts.api_keys import create_api_key
from accounts.models import User
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from sessions_api import cooperation, manifests, merkle
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, Manifest, Session
from sessions_api.serializers import manifests as shapes
from sessions_api.tests.conftest import a_session, add_chunk
from testing.parallel import in_parallel
from testing.servers import ROOT

FIELDS = {
    "manifest_id", "session_id", "merkle_root", "chunk_count", "total_size", "validation_status", "validated_at",
    "metadata", "blockchain_anchored", "anchor_status", "anchor_transaction_id", "anchor_block_height", "anchor_error",
    "anchored_at", "created_at", "updated_at",
}  # fmt: skip


def make(api: ApiClient, token: str, session: Session) -> Any:
    return api.send("post", "/manifests", {"session_id": str(session.pk)}, token=token)


def theirs(count: int) -> InmemoryTree:
    """Return the tree over the chunks of `a_session`, as pymerkle builds it."""
    return InmemoryTree.init_from_entries([hashlib.sha256(str(index).encode()).digest() for index in range(count)])


@pytest.fixture
def session(owner: User) -> Session:
    """A completed session of seven chunks."""
    return a_session(owner, 1, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def manifest(api: ApiClient, token: str, session: Session) -> dict[str, Any]:
    """The session's manifest, as JSON."""
    found: dict[str, Any] = make(api, token, session).json()
    return found


# Creating.


def test_a_manifest_holds_the_root_over_all_chunks(api: ApiClient, token: str, session: Session) -> None:
    response = make(api, token, session)
    made = response.json()
    assert (response.status_code, set(made)) == (201, FIELDS | {"chunks", "chunks_left_out"})
    assert (made["chunk_count"], made["total_size"], made["blockchain_anchored"]) == (7, 28, False)
    assert made["merkle_root"] == theirs(7).get_root().hex()
    assert [(chunk["index"], chunk["size"]) for chunk in made["chunks"]] == [(n, n + 1) for n in range(7)]
    assert set(made["chunks"][0]) == {"chunk_id", "index", "size", "hash", "created_at"}


def test_the_session_shows_its_manifest_id(api: ApiClient, token: str, session: Session) -> None:
    made = make(api, token, session).json()
    session.refresh_from_db()
    assert (str(session.manifest_id), session.merkle_root) == (made["manifest_id"], made["merkle_root"])
    assert AuditEvent.objects.filter(type="manifest.made", actor=str(session.user_id)).count() == 1


def test_a_session_has_one_manifest(api: ApiClient, token: str, session: Session, manifest: dict[str, Any]) -> None:
    Session.objects.filter(pk=session.pk).update(manifest_id=None)  # as if the creating worker had been killed
    response = make(api, token, session)
    assert (response.status_code, error_code(response)) == (409, "4002")
    assert response.json()["error"]["details"] == {"manifest_id": manifest["manifest_id"]}
    session.refresh_from_db()
    assert str(session.manifest_id) == manifest["manifest_id"]


def test_only_the_first_manifest_request_changes_the_session(api: ApiClient, token: str, session: Session) -> None:
    make(api, token, session)
    assert Session.objects.get(pk=session.pk).version == session.version + 1
    api.send("patch", f"/sessions/{session.pk}", {"name": "Later"}, token=token)
    before = api.send("get", f"/sessions/{session.pk}", token=token).json()

    assert error_code(make(api, token, session)) == "4002"
    assert api.send("get", f"/sessions/{session.pk}", token=token).json() == before


@pytest.mark.django_db(transaction=True)
def test_only_one_of_several_parallel_requests_creates_the_manifest(
    transactional_db: None, owner: User, token: str
) -> None:
    session = a_session(owner, 1, 2)
    statuses = in_parallel(8, lambda _: make(ApiClient(HTTP_HOST="testserver"), token, session).status_code)
    assert sorted(statuses) == [201] + [409] * 7
    assert Manifest.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("half", [True, False])
def test_a_session_deleted_meanwhile_gets_no_manifest(
    transactional_db: None, owner: User, token: str, monkeypatch: pytest.MonkeyPatch, *, half: bool
) -> None:
    session, tree_hash = a_session(owner, 1), merkle.tree_hash

    def and_then_it_is_deleted(leaves: Iterable[bytes]) -> bytes:
        root, rows = tree_hash(leaves), Session.objects.filter(pk=session.pk)
        rows.update(deleted_at=timezone.now()) if half else rows.delete()
        return root

    monkeypatch.setattr(merkle, "tree_hash", and_then_it_is_deleted)
    api = ApiClient(raise_request_exception=False, HTTP_HOST="testserver")
    assert error_code(make(api, token, session)) == "4001"
    assert not Manifest.objects.exists()


@pytest.mark.parametrize("status", ["active", "failed", "cancelled"])
def test_only_a_completed_session_gets_a_manifest(api: ApiClient, token: str, owner: User, status: str) -> None:
    response = make(api, token, a_session(owner, 1, status=status))
    assert (response.status_code, error_code(response)) == (409, "4007")
    assert response.json()["error"]["details"] == {"status": status}


def test_the_error_lists_missing_chunks(api: ApiClient, token: str, owner: User) -> None:
    session = a_session(owner, status="completed")
    for index in (2, 3, 200):
        add_chunk(session, index)
    response = make(api, token, session)
    details = response.json()["error"]["details"]
    assert (response.status_code, error_code(response), details["missing_count"]) == (409, "4007", 198)
    assert details["missing"] == [0, 1, *range(4, 102)]
    assert Manifest.objects.count() == 0


def test_a_session_without_chunks_gets_no_manifest(api: ApiClient, token: str, owner: User) -> None:
    assert error_code(make(api, token, a_session(owner))) == "4007"


def test_a_manifest_waits_for_live_uploads_but_not_for_dead_ones(api: ApiClient, token: str, owner: User) -> None:
    session, soon = a_session(owner, 1), timezone.now() + timedelta(minutes=1)
    chunk = add_chunk(session, 1, state=Chunk.State.UPLOADING, hash="", lease_until=soon)
    response = make(api, token, session)
    assert (error_code(response), response.json()["error"]["details"]["uploads_under_way"]) == ("4007", 1)
    Chunk.objects.filter(pk=chunk.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert make(api, token, session).json()["chunk_count"] == 1
    assert not Chunk.objects.filter(pk=chunk.pk).exists()  # so its upload cannot record it


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "1002"), ({"session_id": None}, "1002"), ({"session_id": "x"}, "1005"), ({"session_id": 7}, "1005"),
     ({"session_id": str(uuid.uuid4())}, "4001")],
)  # fmt: skip
def test_bad_input_is_refused(api: ApiClient, token: str, body: dict[str, Any], code: str) -> None:
    assert error_code(api.send("post", "/manifests", body, token=token)) == code


# Access.


def test_other_users_cannot_find_or_create_a_manifest(
    api: ApiClient, stranger_token: str, session: Session, manifest: dict[str, Any]
) -> None:
    path = f"/manifests/{manifest['manifest_id']}"
    assert error_code(make(api, stranger_token, session)) == "4001"
    for method, below in (("get", ""), ("put", ""), ("get", "/proof/0"), ("post", "/anchor")):
        assert (
            error_code(api.send(method, path + below, {} if method != "get" else None, token=stranger_token)) == "4001"
        )
    assert api.send("get", "/manifests", token=stranger_token).json()["manifests"] == []


def test_only_staff_may_list_the_manifests_of_another_user(
    api: ApiClient, token: str, staff_token: str, manifest: dict[str, Any]
) -> None:
    owner_id = str(Manifest.objects.get(pk=manifest["manifest_id"]).user_id)
    listed = api.send("get", f"/manifests?user_id={owner_id}", token=staff_token).json()["manifests"]
    assert [each["manifest_id"] for each in listed] == [manifest["manifest_id"]]
    assert api.send("get", "/manifests", token=staff_token).json()["manifests"] == []
    assert api.send("get", f"/manifests?user_id={owner_id}", token=token).status_code == 200
    assert error_code(api.send("get", f"/manifests?user_id={uuid.uuid4()}", token=token)) == "2004"


def test_staff_may_read_a_manifest_but_not_change_it(
    api: ApiClient, staff_token: str, manifest: dict[str, Any]
) -> None:
    path = f"/manifests/{manifest['manifest_id']}"
    assert api.send("get", path, token=staff_token).json()["merkle_root"] == manifest["merkle_root"]
    assert api.send("get", f"{path}/proof/0", token=staff_token).status_code == 200
    assert error_code(api.send("put", path, {"metadata": {}}, token=staff_token)) == "4001"
    assert error_code(api.send("post", f"{path}/anchor", token=staff_token)) == "4001"


def test_the_manifest_of_a_deleted_session_is_not_found(
    api: ApiClient, token: str, session: Session, manifest: dict[str, Any]
) -> None:
    Session.objects.filter(pk=session.pk).update(deleted_at=timezone.now())
    assert error_code(api.send("get", f"/manifests/{manifest['manifest_id']}", token=token)) == "4001"
    assert api.send("get", "/manifests", token=token).json()["manifests"] == []


# Reading and changing.


def test_a_list_is_paged_and_filtered(api: ApiClient, token: str, owner: User) -> None:
    made = [make(api, token, a_session(owner, 1)).json() for _ in range(3)]
    page = api.send("get", "/manifests?limit=2&sort=created_at", token=token).json()
    assert [one["manifest_id"] for one in page["manifests"]] == [one["manifest_id"] for one in made[:2]]
    assert page["pagination"] == {"page": 1, "limit": 2, "total": 3, "pages": 2}
    assert set(page["manifests"][0]) == FIELDS
    found = api.send("get", f"/manifests?session_id={made[2]['session_id']}", token=token).json()["manifests"]
    assert [one["manifest_id"] for one in found] == [made[2]["manifest_id"]]
    assert api.send("get", "/manifests?anchor_status=confirmed", token=token).json()["manifests"] == []


def test_a_list_does_not_look_up_the_session_of_each_manifest(
    api: ApiClient, token: str, owner: User, manifest: dict[str, Any]
) -> None:
    gone = make(api, token, a_session(owner, 1)).json()["session_id"]
    Session.objects.filter(pk=gone).update(deleted_at=timezone.now())
    with CaptureQueriesContext(connection) as captured:
        found = api.send("get", "/manifests", token=token).json()
    assert [one["manifest_id"] for one in found["manifests"]] == [manifest["manifest_id"]]
    asked = [query["sql"] for query in captured if "sessions_api_manifest" in query["sql"]]
    assert len(asked) == 2  # count and page
    assert not [sql for sql in asked if "JOIN" in sql or "$lookup" in sql]


def test_put_replaces_the_metadata_alone(api: ApiClient, token: str, manifest: dict[str, Any]) -> None:
    path = f"/manifests/{manifest['manifest_id']}"
    changed = api.send("put", path, {"metadata": {"a": 1}, "merkle_root": "0" * 64}, token=token).json()
    assert (changed["metadata"], changed["merkle_root"]) == ({"a": 1}, manifest["merkle_root"])
    assert error_code(api.send("put", path, {}, token=token)) == "1002"
    assert error_code(api.send("put", path, {"metadata": {"a": "x" * 20_000}}, token=token)) == "1004"


def test_a_stale_tag_is_refused_and_a_current_one_gets_304(
    api: ApiClient, token: str, manifest: dict[str, Any]
) -> None:
    path = f"/manifests/{manifest['manifest_id']}"
    tag = api.send("get", path, token=token)["ETag"]
    with CaptureQueriesContext(connection) as captured:
        assert api.send("get", path, token=token, headers={"If-None-Match": tag}).status_code == 304
    assert not [query for query in captured if "sessions_api_chunk" in query["sql"]]
    assert api.send("put", path, {"metadata": {"a": 1}}, token=token, headers={"If-Match": tag}).status_code == 200
    response = api.send("put", path, {"metadata": {"a": 2}}, token=token, headers={"If-Match": tag})
    assert (response.status_code, error_code(response)) == (412, "4003")
    assert api.send("get", path, token=token).json()["metadata"] == {"a": 1}


@pytest.mark.django_db(transaction=True)
def test_parallel_changes_without_a_tag_all_succeed(transactional_db: None, owner: User, token: str) -> None:
    path = f"/manifests/{make_manifest(a_session(owner, 1)).pk}"

    def change(number: int) -> int:
        api = ApiClient(HTTP_HOST="testserver")
        status: int = api.send("put", path, {"metadata": {"n": number}}, token=token).status_code
        return status

    assert set(in_parallel(8, change)) == {200}
    assert Manifest.objects.get().version == 9


# Proving.


@pytest.mark.parametrize("index", range(7))
def test_a_proof_leads_to_the_root(api: ApiClient, token: str, manifest: dict[str, Any], index: int) -> None:
    proof = api.send("get", f"/manifests/{manifest['manifest_id']}/proof/{index}", token=token).json()
    expected = theirs(7).prove_inclusion(index + 1)
    assert [bytes.fromhex(one) for one in (proof["leaf_hash"], *proof["audit_path"])] == list(expected.path)
    assert (proof["index"], proof["tree_size"], proof["merkle_root"]) == (index, 7, manifest["merkle_root"])


def test_reading_many_chunks_yields_to_other_requests(
    api: ApiClient, token: str, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[None] = []
    monkeypatch.setattr(manifests, "BATCH", 3)
    monkeypatch.setattr(shapes, "CHUNKS_PER_BATCH", 3)
    monkeypatch.setattr(cooperation, "let_others_run", lambda: counted.append(None))
    path = f"/manifests/{make(api, token, session).json()['manifest_id']}"
    assert {api.send("get", path + below, token=token).status_code for below in ("", "/proof/6")} == {200}
    assert len(counted) == 4 * 3  # for seven chunks each: the tree, two answers, the proof


@pytest.mark.parametrize(("index", "code"), [("7", "4001"), ("99999999999", "1003"), ("-1", "1003"), ("a", "1003")])
def test_there_is_no_proof_for_an_unknown_index(
    api: ApiClient, token: str, manifest: dict[str, Any], index: str, code: str
) -> None:
    assert error_code(api.send("get", f"/manifests/{manifest['manifest_id']}/proof/{index}", token=token)) == code


@pytest.mark.parametrize("below", ["", "/proof/0"])
def test_an_invalid_uuid_is_refused(api: ApiClient, token: str, below: str) -> None:
    assert error_code(api.send("get", f"/manifests/nonsense{below}", token=token)) == "1005"


def test_the_documented_check_accepts_only_a_valid_proof(api: ApiClient, token: str, manifest: dict[str, Any]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/manifests.md").read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    for index in range(7):
        proof = api.send("get", f"/manifests/{manifest['manifest_id']}/proof/{index}", token=token).json()
        assert namespace["belongs"](str(index).encode(), proof)
        assert not namespace["belongs"](b"another chunk", proof)


def test_a_staff_api_key_without_admin_read_reads_only_its_owners_manifests(
    api: ApiClient, manifest: dict[str, Any], super_admin: User
) -> None:
    path = f"/manifests/{manifest['manifest_id']}"
    for permissions, status in ((["session:read"], 404), (["session:read", "admin:read"], 200)):
        key = create_api_key(super_admin, name="key", permissions=permissions)[1]
        assert api.send("get", path, headers={"X-API-Key": key}).status_code == status
