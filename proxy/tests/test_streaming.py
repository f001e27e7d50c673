"""Bodies are streamed in both directions without buffering, and either side that disconnects frees the other."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from proxy.tests.conftest import Stage
from testing.http.client import Ask, Connect, RawClient
from testing.http.cluster import OK, Behaviour, RawCluster, Visit, saying_and_closing
from testing.http.messages import Cut, Ended
from testing.waiting import wait_until

pytestmark = pytest.mark.planes

MIB = 1024 * 1024
SIZE = 64 * MIB
MAX_GROWTH_MIB = 20
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def workers(stage: Stage) -> list[int]:
    master = stage.gateway.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def peak_mib(pid: int) -> float:
    """Return the process's peak memory, in MiB, since the peak was reset."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@contextmanager
def no_worker_grows(stage: Stage) -> Iterator[None]:
    """Check that no worker's memory grows by more than MAX_GROWTH_MIB at any time in the block."""
    for pid in workers(stage):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # resets the peak (proc(5))
    before = {pid: peak_mib(pid) for pid in workers(stage)}
    assert len(before) == 2
    yield
    growth = {pid: peak_mib(pid) - before[pid] for pid in before}
    assert max(growth.values()) < MAX_GROWTH_MIB


# Downloads.


def send_large(framed: bool) -> Behaviour:
    def behave(visit: Visit) -> None:
        piece = b"x" * MIB
        framing = b"Content-Length: %d" % SIZE if framed else b"Transfer-Encoding: chunked"
        visit.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        for _ in range(SIZE // MIB):
            visit.send(piece if framed else chunk(piece))
        if not framed:
            visit.send(chunk(b""))

    return behave


@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
def test_a_large_download_is_not_buffered(connect: Connect, stage: Stage, wallets: RawCluster, framed: bool) -> None:
    wallets.behaviour = send_large(framed)
    client = connect()
    with no_worker_grows(stage):
        client.send(client.head("GET", "/wallets"))
        assert client.read_head().status == 200
        assert client.discard(SIZE) == SIZE


def test_a_download_waits_for_a_slow_client(connect: Connect, stage: Stage, wallets: RawCluster) -> None:
    wallets.behaviour = send_large(True)
    client = connect()
    with no_worker_grows(stage):
        client.send(client.head("GET", "/wallets"))
        client.read_head()
        time.sleep(0.5)
        assert client.discard(SIZE) == SIZE


def test_a_slow_client_does_not_stop_others(connect: Connect, wallets: RawCluster, ask: Ask, stage: Stage) -> None:
    wallets.behaviour = send_large(True)
    for _ in range(4):
        client = connect()
        client.send(client.head("GET", "/wallets"))
        client.read_head()
    started = time.monotonic()
    for _ in range(4):
        assert ask("GET", "/chain/info").status == 200
    assert time.monotonic() - started < 10


def test_a_client_that_leaves_frees_the_clusters_connection(connect: Connect, wallets: RawCluster) -> None:
    wallets.behaviour = send_large(True)
    client = connect()
    client.send(client.head("GET", "/wallets"))
    client.read_head()
    (visit,) = wallets.visits
    client.close()
    assert visit.over.wait(5)


# Event streams.


def test_events_arrive_one_by_one(connect: Connect, wallets: RawCluster) -> None:
    go_on = threading.Event()

    def events(visit: Visit) -> None:
        visit.send(EVENTS)
        for number in range(3):
            go_on.wait(5)
            go_on.clear()
            visit.send(chunk(b"data: %d\n\n" % number))
        visit.send(chunk(b""))

    wallets.behaviour = events
    client = connect()
    client.send(client.head("GET", "/wallets", "Accept: text/event-stream"))
    head = client.read_head()  # before the first event
    assert head.all("content-type") == ["text/event-stream"]
    for number in range(3):
        go_on.set()
        assert client.read_until(b"\r\n") == b"9"
        assert client.read_until(b"\r\n") == b"data: %d\n\n" % number
    assert client.read_until(b"\r\n\r\n") == b"0"


def test_a_client_that_leaves_an_event_stream_frees_the_clusters_connection(
    connect: Connect, wallets: RawCluster
) -> None:
    def events(visit: Visit) -> None:
        visit.send(EVENTS)
        while True:
            visit.send(chunk(b"data: x\n\n"))
            time.sleep(0.05)

    wallets.behaviour = events
    client = connect()
    client.send(client.head("GET", "/wallets"))
    client.read_head()
    (visit,) = wallets.visits
    client.close()
    assert visit.over.wait(5)


@pytest.mark.parametrize("head", [b"", EVENTS], ids=["before the answer", "in an event stream"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_leaves_frees_the_connection_of_a_silent_cluster(
    connect: Connect, stage: Stage, wallets: RawCluster, head: bytes, method: str
) -> None:
    def say_nothing_more(visit: Visit) -> None:
        visit.send(head)
        assert visit.sock.recv(1) == b""
        raise Ended

    wallets.behaviour = say_nothing_more
    client = connect()
    client.send(client.head(method, "/wallets"))
    wait_until(lambda: len(wallets.requests) == 1)
    if head:
        client.read_head()
    (visit,) = wallets.visits
    client.close()
    assert visit.over.wait(10)  # the timeout is 30 seconds


def test_a_client_that_sends_its_next_request_early_has_not_left(connect: Connect, wallets: RawCluster) -> None:
    def take_a_while(visit: Visit) -> None:
        time.sleep(0.5)
        visit.send(OK)

    wallets.behaviour = take_a_while
    client = connect()
    client.send(client.head("GET", "/wallets/1") + client.head("GET", "/wallets/2"))
    assert [client.read_answer().status for _ in range(2)] == [200, 200]
    assert [request.target for request in wallets.requests] == ["/api/v1/wallets/1", "/api/v1/wallets/2"]


# Uploads.


def count_body(visit: Visit) -> None:
    """Receive an upload without keeping it, and answer with its size."""
    length = int(visit.request.all("content-length")[0]) if visit.request.all("content-length") else None
    count = discard_visit(visit, length)
    body = json.dumps(count).encode()
    visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def discard_visit(visit: Visit, length: int | None) -> int:
    """Receive a body of this length (None: in chunks), and return its size."""
    end, count, tail = b"\r\n0\r\n\r\n", len(visit.buffer), visit.buffer[-7:]
    visit.buffer.clear()
    while count < length if length is not None else not tail.endswith(end):
        data = visit.sock.recv(MIB)
        if not data:
            break
        count, tail = count + len(data), (tail + data)[-7:]
    return count


@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunks"])
def test_a_large_upload_is_not_buffered(connect: Connect, stage: Stage, wallets: RawCluster, framed: bool) -> None:
    wallets.on_head = count_body
    client = connect()
    piece = b"x" * MIB
    with no_worker_grows(stage):
        client.send(
            client.head("POST", "/wallets", f"Content-Length: {SIZE}" if framed else "Transfer-Encoding: chunked")
        )
        for _ in range(SIZE // MIB):
            client.send(piece if framed else chunk(piece))
        if not framed:
            client.send(chunk(b""))
        assert client.read_answer().json() >= SIZE


def test_an_upload_reaches_the_cluster_before_its_end(connect: Connect, wallets: RawCluster) -> None:
    first_piece = threading.Event()

    def note(visit: Visit) -> None:
        while len(visit.buffer) < 100_000:
            assert visit.more()
        first_piece.set()
        count_body(visit)

    wallets.on_head = note
    client = connect()
    client.send(client.head("POST", "/wallets", "Content-Length: 300000") + b"x" * 200_000)
    assert first_piece.wait(5)
    client.send(b"x" * 100_000)
    assert client.read_answer().json() == 300_000


@pytest.mark.django_plane  # nginx may see the reset first, and answer 502
@pytest.mark.parametrize("fields", [(f"Content-Length: {SIZE}",), ("Transfer-Encoding: chunked",)])
def test_an_early_answer_of_the_cluster_is_relayed(
    connect: Connect, wallets: RawCluster, fields: tuple[str, ...]
) -> None:
    wallets.on_head = saying_and_closing(b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nmine")
    client = connect()
    client.send(client.head("POST", "/wallets", *fields))
    sender = threading.Thread(target=keep_sending, args=[client])
    sender.start()
    answer = client.read_answer()
    assert (answer.status, answer.body) == (413, b"mine")
    client.close()
    sender.join(5)


def test_an_early_answer_is_relayed_though_the_cluster_keeps_the_connection(
    connect: Connect, wallets: RawCluster
) -> None:
    stay = threading.Event()

    def answer_and_stay(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 413 Too much\r\nContent-Length: 4\r\n\r\nmine")
        stay.wait(20)

    wallets.on_head = answer_and_stay
    client = connect()
    client.sock.settimeout(3)
    client.send(client.head("POST", "/wallets", f"Content-Length: {SIZE}"))
    sender = threading.Thread(target=keep_sending, args=[client])
    sender.start()
    try:
        assert client.read_answer().body == b"mine"
    finally:
        stay.set()
        with suppress(OSError):  # the gateway may have closed it already
            client.sock.shutdown(socket.SHUT_RDWR)
        sender.join(5)


def keep_sending(client: RawClient) -> None:
    """Upload until the gateway closes the connection."""
    try:
        for _ in range(SIZE // MIB):
            client.send(chunk(b"x" * MIB))
    except OSError:
        return


def test_a_client_that_leaves_an_upload_frees_the_clusters_connection(connect: Connect, wallets: RawCluster) -> None:
    client = connect()
    client.send(client.head("POST", "/wallets", f"Content-Length: {SIZE}") + b"x" * MIB)
    client.close()
    wait_until(lambda: wallets.broken)
    assert wallets.requests == []


def test_a_truncated_answer_is_one_line_in_the_log(connect: Connect, stage: Stage, wallets: RawCluster) -> None:
    before = len(stage.gateway.logged())
    wallets.behaviour = saying_and_closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
    with pytest.raises(Cut):
        connect().ask("GET", "/wallets/cut")
    (text,) = wait_until(lambda: stage.gateway.logged()[before:]).splitlines()
    line = json.loads(text)
    assert (line["status"], line["upstream_status"], line["outcome"]) == (200, 200, "upstream_cut")
