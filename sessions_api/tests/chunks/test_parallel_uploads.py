"""Many concurrent uploads on two workers that may be killed: each chunk counts once and no limit is exceeded."""

import os
import signal
import threading
import time

import pytest

from sessions_api.tests.chunks.conftest import MIB, Stage, created, outcomes, place, sha256
from testing.hammer import connections, workers
from testing.http.client import request_bytes
from testing.http.cluster import Visit
from testing.http.messages import Cut, Ended, Message
from testing.parallel import in_parallel
from testing.waiting import wait_until

pytestmark = pytest.mark.usefixtures("db")
COUNT = 32
PIECE = 64 * 1024  # sixteen fill a small session


def request_of(stage: Stage, session: str, index: int, body: bytes) -> bytes:
    bearer = f"Authorization: Bearer {stage.tokens['demo']}"
    return request_bytes("POST", f"/api/v1/sessions/{session}/chunks", bearer, *place(index), body=body)


def upload_all(stage: Stage, requests: list[bytes]) -> list[Message]:
    """Send the requests concurrently, each on its own connection, to alternating workers; return the answers."""
    with connections(stage.gateway, len(requests)) as opened:

        def send(number: int) -> Message:
            opened[number][1].send(requests[number])
            return opened[number][1].read_answer()

        return in_parallel(len(requests), send)


def found(answers: list[Message]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for answer in answers:
        name = answer.code if answer.status >= 400 else str(answer.status)
        counts[name] = counts.get(name, 0) + 1
    return counts


def test_of_many_concurrent_uploads_exactly_as_many_are_recorded_as_fit(stage: Stage) -> None:
    session = stage.session("small")
    answers = upload_all(stage, [request_of(stage, session, index, bytes(PIECE)) for index in range(COUNT)])
    assert found(answers) == {"201": 16, "4005": 16}
    assert sum(size for _, size, _ in stage.listed(session)) == stage.reserved(session) == MIB


def test_concurrent_uploads_of_the_same_content_are_recorded_once(stage: Stage) -> None:
    session = stage.session()
    answers = upload_all(stage, [request_of(stage, session, 5, bytes(PIECE))] * COUNT)
    counts = found(answers)
    assert counts.pop("201") == 1
    assert set(counts) <= {"200", "4003"}
    assert stage.listed(session) == [(5, PIECE, sha256(bytes(PIECE)))]
    assert len(stage.cluster.requests) == 1
    assert stage.reserved(session) == PIECE


def test_one_of_several_concurrent_uploads_with_different_content_is_recorded(stage: Stage) -> None:
    session = stage.session()
    answers = upload_all(stage, [request_of(stage, session, 5, bytes([number]) * PIECE) for number in range(COUNT)])
    counts = found(answers)
    assert counts.pop("201") == 1
    assert set(counts) <= {"4002", "4003"}
    ((index, size, digest),) = stage.listed(session)
    assert (index, size) == (5, PIECE)
    assert digest == sha256(stage.cluster.request.body)


def settled(stage: Stage, session: str, index: int, body: bytes, *, seconds: float = 30) -> Message:
    """Upload again until no other upload of the index is in progress, as a client that obeys Retry-After; give up after
    `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = stage.upload(session, index, body)
        except (Cut, Ended, OSError):
            continue  # on a worker that was killed
        if answer.status != 409 or time.monotonic() > deadline:
            return answer
        assert answer.code == "4003"
        time.sleep(0.2)


def test_a_retry_repairs_what_killed_workers_left_behind(stage: Stage) -> None:
    session, go_on, bodies = stage.session("small"), threading.Event(), [bytes([n]) * PIECE for n in range(16)]

    def half_wait(visit: Visit) -> None:
        if visit.request.body[0] % 2:
            go_on.wait(20)
        created(visit)

    stage.cluster.behaviour = half_wait
    with connections(stage.gateway, len(bodies)) as opened:
        for number, (_, connection) in enumerate(opened):
            connection.send(request_of(stage, session, number, bodies[number]))
        wait_until(lambda: len(stage.cluster.requests) == len(bodies))
        for pid in workers(stage.gateway):
            os.kill(pid, signal.SIGKILL)
    go_on.set()
    stage.cluster.behaviour = created
    answer = settled(stage, session, 1, bodies[1], seconds=0)
    assert (answer.code, 1 <= int(answer.all("retry-after")[0]) <= 10) == ("4003", True)
    stage.store.end_leases(session)  # as they do after ten seconds

    answers = in_parallel(len(bodies), lambda number: settled(stage, session, number, bodies[number]))

    assert set(outcomes(answers)) <= {"200", "201"}
    assert stage.listed(session) == [(number, PIECE, sha256(body)) for number, body in enumerate(bodies)]
    assert stage.upload(session, 99, b"x").code == "4005"
    assert stage.reserved(session) == MIB
