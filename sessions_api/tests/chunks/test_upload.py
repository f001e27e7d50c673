"""POST /sessions/{session_id}/chunks on a real gateway: what is recorded, and what is refused."""

import io
import urllib.error
import urllib.request
import uuid

import pytest

from sessions_api.tests.chunks.conftest import CHUNKED, MIB, OCTETS, Stage, chunks, place, sha256
from testing.http.cluster import saying
from testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("db")
BODY = b"x" * 300_000


def test_a_chunk_is_recorded_and_described(stage: Stage) -> None:
    session = stage.session()
    answer = stage.upload(session, 7, BODY)
    facts = answer.json()
    assert (answer.status, set(facts)) == (201, {"chunk_id", "index", "size", "hash", "created_at"})
    assert (facts["index"], facts["size"], facts["hash"]) == (7, len(BODY), sha256(BODY))
    assert stage.cluster.request.target == f"/api/v1/sessions/{session}/chunks"
    assert stage.cluster.request.body == BODY
    assert stage.ask("GET", f"/sessions/{session}/chunks/{facts['chunk_id']}").json() == facts
    assert stage.reserved(session) == len(BODY)


def test_a_chunk_without_a_length_is_recorded_with_its_size(stage: Stage) -> None:
    session = stage.session()
    assert stage.upload(session, 0, chunks(BODY, b"y"), CHUNKED).status == 201
    assert stage.cluster.request.body == BODY + b"y"
    assert stage.listed(session) == [(0, len(BODY) + 1, sha256(BODY + b"y"))]
    assert stage.reserved(session) == len(BODY) + 1


@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
def test_a_chunk_has_at_most_ten_mebibytes(stage: Stage, framed: bool) -> None:
    body = bytes(10 * MIB)
    fields, framing = ((), body) if framed else ((CHUNKED,), chunks(body))
    assert stage.upload(stage.session(), 0, framing, *fields).json()["size"] == 10 * MIB


def test_the_expected_hash_may_be_in_upper_case(stage: Stage) -> None:
    answer = stage.upload(stage.session(), 0, BODY, f"X-Chunk-SHA256: {sha256(BODY).upper()}")
    assert (answer.status, answer.json()["hash"]) == (201, sha256(BODY))


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        (["X-Chunk-Index: 0"], 415, "1001"),
        (["X-Chunk-Index: 0", "Content-Type: application/json"], 415, "1001"),
        ([OCTETS], 422, "1002"),
        ([*place("")], 422, "1003"),
        ([*place("one")], 422, "1003"),
        ([*place("1.0")], 422, "1003"),
        ([*place("+1")], 422, "1003"),
        ([*place("1"), "X-Chunk-Index: 1"], 422, "1003"),
        ([*place("-1")], 422, "1004"),
        ([*place("1000001")], 422, "1004"),
        ([*place("9" * 1001)], 422, "1004"),
        ([*place("0"), "X-Chunk-SHA256: abc"], 422, "1003"),
        ([*place("0"), f"X-Chunk-SHA256: {'g' * 64}"], 422, "1003"),
        ([OCTETS, "X-Chunk-SHA256: abc"], 422, "1001"),
    ],
)
def test_invalid_header_fields_are_reported_and_no_cluster_is_asked(
    stage: Stage, fields: list[str], status: int, code: str
) -> None:
    answer = stage.ask("POST", f"/sessions/{stage.sessions['plain'][0]}/chunks", *fields, body=b"x")
    assert (answer.status, answer.code) == (status, code)
    assert stage.cluster.requests + stage.cluster.broken == []


def test_variants_of_the_media_type_are_accepted(stage: Stage) -> None:
    path, kind = f"/sessions/{stage.session()}/chunks", "Content-Type: Application/Octet-Stream; x=y"
    assert stage.ask("POST", path, kind, "X-Chunk-Index: 1000000", body=b"x").status == 201


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("unknown", 404, "4001"), ("others", 404, "4001"), ("completed", 409, "4007")]
)
def test_each_reason_to_refuse_a_chunk_has_its_own_error(*, stage: Stage, kind: str, status: int, code: str) -> None:
    session = stage.sessions[kind][0] if kind in stage.sessions else str(uuid.uuid4())
    with stage.connect() as client:
        # Send only the head: it is refused before the first byte of the body.
        client.send(client.head("POST", f"/sessions/{session}/chunks", *place(0), "Content-Length: 1000"))
        answer = client.read_answer()
    assert (answer.status, answer.code) == (status, code)
    assert stage.cluster.requests + stage.cluster.broken == []


def test_staff_may_not_upload_for_others(stage: Stage) -> None:
    assert stage.upload(stage.sessions["plain"][0], 0, b"x", who="admin").code == "4001"


def test_an_invalid_session_id_is_refused(stage: Stage) -> None:
    assert stage.upload("mine", 0, b"x").code == "1005"


@pytest.mark.parametrize(("fields", "body"), [((), b""), ((CHUNKED,), chunks())], ids=["length", "chunks"])
def test_an_empty_chunk_is_refused_before_the_cluster_is_asked(
    stage: Stage, fields: tuple[str, ...], body: bytes
) -> None:
    session = stage.session()
    answer = stage.upload(session, 0, body, *fields)
    assert (answer.status, answer.code) == (422, "1004")
    assert stage.cluster.requests + stage.cluster.broken == []
    assert stage.upload(session, 0, b"x").status == 201


def test_a_length_over_the_limit_is_refused_before_the_body(stage: Stage) -> None:
    with stage.connect() as client:
        path = f"/sessions/{stage.sessions['plain'][0]}/chunks"
        client.send(client.head("POST", path, *place(0), f"Content-Length: {10 * MIB + 1}"))
        answer = client.read_answer()
    assert (answer.status, answer.code) == (413, "4006")
    assert answer.json()["error"]["details"] == {"limit_bytes": 10 * MIB}
    assert stage.cluster.requests + stage.cluster.broken == []


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_client_that_reads_after_sending_all_gets_413_for_a_large_chunk(stage: Stage, in_chunks: bool) -> None:
    body = bytes(11 * MIB)
    upload = urllib.request.Request(
        f"{stage.gateway.url}/sessions/{stage.session()}/chunks",
        data=io.BytesIO(body) if in_chunks else body,
        headers={
            "Authorization": f"Bearer {stage.tokens['demo']}",
            "Content-Type": OCTETS.removeprefix("Content-Type: "),
            "X-Chunk-Index": "0",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(upload, timeout=30)
    assert refusal.value.code == 413
    refusal.value.close()


def test_a_body_without_a_length_is_refused_once_it_exceeds_the_limit(stage: Stage) -> None:
    session = stage.session()
    with stage.connect() as client:
        client.send(client.head("POST", f"/sessions/{session}/chunks", *place(0), CHUNKED))
        client.send(chunks(*[b"x" * MIB] * 10, bytes(200_000))[: -len(b"0\r\n\r\n")])
        assert client.read_answer().code == "4006"
    assert_not_uploaded(stage, session)


def assert_not_uploaded(stage: Stage, session: str) -> None:
    """Check that the cluster has no complete request, nothing is recorded, and the index is free."""
    wait_until(lambda: len(stage.cluster.broken) == 1)
    assert stage.cluster.requests == []
    assert stage.listed(session) == []
    assert stage.upload(session, 0, b"xyz").status == 201
    assert stage.reserved(session) == 3


@pytest.mark.parametrize("size", [1, 1000, 300_000])
@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
def test_a_body_with_a_wrong_hash_never_reaches_the_cluster_completely(stage: Stage, framed: bool, size: int) -> None:
    session, body, told = stage.session(), b"x" * size, f"X-Chunk-SHA256: {sha256(b'other')}"
    fields, framing = ((), body) if framed else ((CHUNKED,), chunks(body))
    answer = stage.upload(session, 0, framing, told, *fields)
    assert (answer.status, answer.code) == (422, "1003")
    (problem,) = answer.json()["error"]["details"]["validation_errors"]
    assert problem["field"] == "X-Chunk-SHA256"
    assert_not_uploaded(stage, session)


# The same index again.


@pytest.mark.parametrize("announced", [True, False])
def test_a_repeated_chunk_is_answered_again_but_counted_once(stage: Stage, announced: bool) -> None:
    session, fields = stage.session(), [f"X-Chunk-SHA256: {sha256(BODY)}"] * announced
    first, again = stage.upload(session, 3, BODY, *fields), stage.upload(session, 3, BODY, *fields)
    assert (first.status, again.status) == (201, 200)
    assert again.json() == first.json()
    assert len(stage.cluster.requests) == 1
    assert stage.listed(session) == [(3, len(BODY), sha256(BODY))]
    assert stage.reserved(session) == len(BODY)


def test_a_repeated_chunk_is_answered_after_the_end_of_the_session(stage: Stage) -> None:
    session, first = stage.session(), b"the answer to this was lost"
    recorded = stage.upload(session, 0, first)
    end = ("PATCH", f"/sessions/{session}", "Content-Type: application/json")
    assert stage.ask(*end, body=b'{"status": "completed"}').status == 200

    again = stage.upload(session, 0, first)
    assert (again.status, again.json()) == (200, recorded.json())
    assert stage.upload(session, 0, b"another").code == "4002"
    assert stage.upload(session, 1, first).code == "4007"
    assert len(stage.cluster.requests) == 1


def test_a_repeat_with_a_hash_needs_no_body(stage: Stage) -> None:
    session, announced = stage.session(), f"X-Chunk-SHA256: {sha256(b'abc')}"
    assert stage.upload(session, 0, b"abc").status == 201
    with stage.connect() as client:
        fields = (*place(0), announced, "Content-Length: 3")
        client.send(client.head("POST", f"/sessions/{session}/chunks", *fields))
        assert client.read_answer().status == 200


@pytest.mark.parametrize("fields", [[], [f"X-Chunk-SHA256: {sha256(b'other')}"]], ids=["read", "announced"])
@pytest.mark.parametrize("body", [b"other", b"longer than that"])
def test_different_content_for_an_index_is_refused(stage: Stage, fields: list[str], body: bytes) -> None:
    session = stage.session()
    stage.upload(session, 0, b"first")
    answer = stage.upload(session, 0, body, *fields)
    assert (answer.status, answer.code) == (409, "4002")
    assert stage.listed(session) == [(0, 5, sha256(b"first"))]


def test_a_hash_is_not_trusted_if_the_length_differs(stage: Stage) -> None:
    session = stage.session()
    stage.upload(session, 0, b"first")
    assert stage.upload(session, 0, b"longer", f"X-Chunk-SHA256: {sha256(b'first')}").code == "4002"


# Space in the session.


def test_the_error_of_a_full_session_has_the_remaining_bytes(stage: Stage) -> None:
    session = stage.session("small")
    assert stage.upload(session, 0, bytes(MIB - 10)).status == 201
    answer = stage.upload(session, 1, bytes(11))
    assert (answer.status, answer.code) == (413, "4005")
    assert answer.json()["error"]["details"] == {"room_bytes": 10, "max_size_bytes": MIB}
    assert stage.upload(session, 1, bytes(10)).status == 201
    assert stage.reserved(session) == MIB


def test_a_chunk_without_a_length_may_fill_the_remaining_space(stage: Stage) -> None:
    session = stage.session("small")
    assert stage.upload(session, 0, chunks(bytes(MIB - 10)), CHUNKED).status == 201
    assert stage.upload(session, 1, chunks(bytes(11)), CHUNKED).code == "4005"
    assert stage.upload(session, 1, chunks(bytes(10)), CHUNKED).status == 201
    assert stage.reserved(session) == MIB


def test_excess_reservations_are_recounted_when_space_runs_out(stage: Stage) -> None:
    session = stage.session("small")
    stage.store.write("session", session, "reserved_bytes", MIB)
    assert stage.upload(session, 0, bytes(1000)).status == 201
    assert stage.reserved(session) == 1000


# The cluster's answer.


@pytest.mark.parametrize(("padding", "noted"), [(0, "disk-1/0"), (70_000, "")], ids=["short", "too long to be read"])
def test_the_storage_path_of_the_cluster_is_recorded(stage: Stage, padding: int, noted: str) -> None:
    body = b'{"x": "%b", "storage_path": "disk-1/0"}' % (b"x" * padding)
    stage.cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = stage.upload(stage.session(), 0, b"x")
    assert answer.status == 201
    assert stage.store.read("chunk", answer.json()["chunk_id"], "storage_path") == noted
