"""Uploads whose cluster or client fails: only accepted chunks are recorded, and a retry repairs the rest."""

import contextlib
import threading
import time

import pytest

from sessions_api.tests.chunks.conftest import CHUNKED, CREATED, MIB, Stage, created, place, sha256
from testing.http.cluster import Behaviour, Visit, saying, saying_and_closing, saying_and_resetting
from testing.http.messages import Message
from testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("db")
BODY = b"x" * 200_000
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\nX-Disk: 1\r\n\r\nfull"


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (saying(FULL), 507),
        (saying(b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 0\r\n\r\n"), 422),
        (saying(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), 302),
        (saying_and_closing(), 502),
        (saying_and_resetting(), 502),
        (saying_and_closing(b"HTTP/1.1 20"), 502),
        (saying_and_closing(b"nonsense\r\n\r\n"), 502),
    ],
)
def test_a_failed_chunk_is_not_recorded_and_its_retry_is(stage: Stage, behaviour: Behaviour, status: int) -> None:
    session = stage.session()
    stage.cluster.behaviour = behaviour
    assert stage.upload(session, 0, BODY).status == status
    assert stage.listed(session) == []

    stage.cluster.behaviour = created
    assert stage.upload(session, 0, BODY).status == 201
    assert stage.reserved(session) == len(BODY)


def test_a_refusal_by_the_cluster_is_relayed_unchanged(stage: Stage) -> None:
    stage.cluster.behaviour = saying(FULL)
    answer = stage.upload(stage.session(), 0, BODY)
    assert (answer.status, answer.body, answer.all("x-disk"), answer.all("allow")) == (507, b"full", ["1"], [])


def test_an_answer_before_the_end_of_the_chunk_records_nothing(stage: Stage) -> None:
    def hasty(visit: Visit) -> None:
        visit.send(CREATED)
        visit.reset()

    stage.cluster.on_head = hasty
    session = stage.session()
    assert stage.upload(session, 0, bytes(8_000_000)).code in ("5003", "5005")
    assert stage.listed(session) == []


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Content-Length: 3\r\n\r\n[1]",
        b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["cut", "other JSON", "long"],
)
def test_an_accepted_chunk_is_recorded_even_if_the_answer_is_broken(stage: Stage, rest: bytes) -> None:
    stage.cluster.behaviour = saying_and_closing(b"HTTP/1.1 201 Created\r\n" + rest)
    session = stage.session()
    assert stage.upload(session, 0, BODY).status == 201
    assert stage.listed(session) == [(0, len(BODY), sha256(BODY))]


def retried(stage: Stage, session: str, body: bytes) -> Message:
    """Upload index 0, again and again until the previous upload has ended."""
    deadline = time.monotonic() + 8
    while (answer := stage.upload(session, 0, body)).status == 409:
        assert answer.code == "4003"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def has_come(stage: Stage, session: str) -> None:
    """Wait until the cluster has received the head of an upload to the session."""
    wait_until(lambda: any(session in visit.request.start for visit in stage.cluster.visits), 8)


@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_disconnects_midway_may_retry_immediately(stage: Stage, framed: bool, reset: bool) -> None:
    session = stage.session("small")
    with stage.connect() as client:
        framing = f"Content-Length: {len(BODY)}" if framed else CHUNKED
        head = client.head("POST", f"/sessions/{session}/chunks", *place(0), framing)
        client.send(head + (BODY[:150_000] if framed else b"%x\r\n%b\r\n" % (150_000, BODY[:150_000])))
        has_come(stage, session)
        client.reset() if reset else client.close()
    wait_until(lambda: len(stage.cluster.broken) == 1)
    assert retried(stage, session, BODY).status == 201
    assert stage.cluster.request.body == BODY
    # The first upload returns its bytes during the retry, or a later recount finds them.
    assert stage.upload(session, 1, bytes(MIB - len(BODY))).status == 201
    assert stage.reserved(session) == MIB


def test_a_chunk_is_recorded_if_its_client_disconnects_after_the_last_byte(stage: Stage) -> None:
    session, left = stage.session(), threading.Event()

    def slow(visit: Visit) -> None:
        left.wait(5)
        time.sleep(0.3)  # longer than a disconnect can stay unnoticed
        created(visit)

    stage.cluster.behaviour = slow
    with stage.connect() as client:
        client.send(
            client.head("POST", f"/sessions/{session}/chunks", *place(0), f"Content-Length: {len(BODY)}") + BODY
        )
        wait_until(lambda: len(stage.cluster.requests) == 1)
    left.set()
    assert retried(stage, session, BODY).status == 200
    assert len(stage.cluster.requests) == 1


def test_a_second_upload_of_an_index_is_refused_while_the_first_is_in_progress(stage: Stage) -> None:
    session, go_on = stage.session(), threading.Event()

    def waits(visit: Visit) -> None:
        go_on.wait(5)
        created(visit)

    stage.cluster.behaviour = waits
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(stage.connect())
        stack.callback(go_on.set)
        client.send(client.head("POST", f"/sessions/{session}/chunks", *place(0), "Content-Length: 3") + b"abc")
        wait_until(lambda: len(stage.cluster.requests) == 1)
        answer = stage.upload(session, 0, b"abc")
        assert (answer.status, answer.code) == (409, "4003")
        assert 1 <= int(answer.all("retry-after")[0]) <= 10
        go_on.set()
        assert client.read_answer().status == 201


def test_a_refused_body_leaves_the_connection_usable(stage: Stage) -> None:
    session = stage.session()
    with stage.connect() as client:
        told = f"X-Chunk-SHA256: {sha256(b'other')}"
        assert client.ask("POST", f"/sessions/{session}/chunks", *place(0), told, body=BODY).status == 422
        assert client.ask("POST", f"/sessions/{session}/chunks", *place(0), body=BODY).status == 201
