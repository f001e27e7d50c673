"""Slow clients: other clients are still served, and slow ones are disconnected after a limited time."""

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from lucid_gateway.policy.errors import RequestTimeout
from lucid_gateway.server.client_socket import PatientSocket
from lucid_gateway.server.parsed_request import asks_to_close
from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient
from testing.http.cluster import OK, RawCluster, Visit, saying
from testing.http.messages import Cut, Ended
from testing.waiting import wait_until

MIB = 1024 * 1024
PATIENCE = 1
SLOW = 200
BIG = 10 * MIB
BIG_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


# The socket.


def test_bytes_pass_as_they_come(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    patient = PatientSocket(ours, 1)
    theirs.send(b"hi")
    assert patient.recv(10) == b"hi"
    patient.sendall(b"x" * 1000)
    assert theirs.recv(2000) == b"x" * 1000


def test_a_silent_client_times_out(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(RequestTimeout):
        PatientSocket(pair[0], 0.1).recv(10)


def drip(sock: socket.socket, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not stop.wait(0.02):
            sock.send(b"x")


def test_dripping_bytes_do_not_extend_the_time(pair: tuple[socket.socket, socket.socket]) -> None:
    stop = threading.Event()
    dripping = threading.Thread(target=drip, args=[pair[1], stop])
    dripping.start()
    patient, started = PatientSocket(pair[0], 0.3), time.monotonic()
    with pytest.raises(RequestTimeout):
        list(iter(lambda: patient.recv(10), b""))
    assert time.monotonic() - started < 10
    stop.set()
    dripping.join()


def test_a_client_that_sends_enough_may_take_long(pair: tuple[socket.socket, socket.socket]) -> None:
    patient = PatientSocket(pair[0], 0.3)
    for _ in range(5):
        sending = threading.Timer(0.1, pair[1].send, [b"x" * 200])
        sending.start()
        assert patient.recv(1000)
        sending.join()


def test_time_between_two_calls_does_not_count_for_the_client(pair: tuple[socket.socket, socket.socket]) -> None:
    patient = PatientSocket(pair[0], 0.1)
    time.sleep(0.2)
    pair[1].send(b"hi")
    assert patient.recv(10) == b"hi"


def test_a_client_that_does_not_read_times_out(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        PatientSocket(pair[0], 0.1).sendall(b"x" * 10 * MIB)


@pytest.mark.parametrize(
    ("values", "closes"),
    [
        (["TE, close"], True),
        (["close, X"], True),
        (["keep-alive", "TE , CLOSE"], True),
        (["closed, x"], False),
        ([], False),
    ],
)
def test_close_is_found_among_other_options(values: list[str], closes: bool) -> None:
    assert asks_to_close([("HOST", "x, close"), *(("CONNECTION", value) for value in values)]) == closes


# A real gateway that waits a second.


@pytest.fixture(scope="module")
def cluster() -> Iterator[RawCluster]:
    with RawCluster() as running:
        yield running


@pytest.fixture(scope="module")
def hasty(cluster: RawCluster) -> Iterator[tuple[Gateway, str]]:
    with running_gateway(
        RATE_LIMIT_ENABLED="false", CLIENT_TIMEOUT_SECONDS=str(PATIENCE), TRON_PAYMENT_URL=cluster.url
    ) as gateway:
        yield gateway, gateway.issue_token("demo@lucid.test")


@pytest.fixture
def client(hasty: tuple[Gateway, str], cluster: RawCluster) -> Iterator[RawClient]:
    cluster.forget()
    gateway, token = hasty
    with RawClient(gateway.port, token) as connected:
        yield connected


@pytest.mark.parametrize("field", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_half_a_body_gets_408_and_frees_the_clusters_connection(
    client: RawClient, cluster: RawCluster, field: str
) -> None:
    started = time.monotonic()
    client.send(client.head("POST", "/wallets", field) + b"5\r\nhello")
    answer = client.read_answer()
    assert (answer.status, answer.code, answer.all("connection")) == (408, "1001", ["close"])
    assert client.is_closed()
    assert PATIENCE - 0.5 < time.monotonic() - started < PATIENCE + 10
    wait_until(lambda: cluster.broken)
    assert cluster.requests == []


@pytest.mark.parametrize("field", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_half_a_body_of_the_gateways_own_endpoints_gets_408(client: RawClient, field: str) -> None:
    client.send(client.head("POST", "/auth/login", field, "Content-Type: application/json") + b"5\r\n{")
    answer = client.read_answer()
    assert (answer.status, answer.code) == (408, "1001")
    assert client.is_closed()


def test_a_dripping_body_gets_408(client: RawClient) -> None:
    stop = threading.Event()
    client.send(client.head("POST", "/wallets", "Content-Length: 1000"))
    dripping = threading.Thread(target=drip, args=[client.sock, stop])
    dripping.start()
    with contextlib.suppress(Ended):  # a reset, if another byte arrived after the answer
        assert client.read_answer().status == 408
    stop.set()
    dripping.join()


@pytest.mark.planes
def test_a_client_that_does_not_read_is_disconnected(client: RawClient, cluster: RawCluster) -> None:
    cluster.behaviour = saying(BIG_ANSWER)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(client.head("GET", "/wallets"))
    wait_until(lambda: cluster.requests)
    assert cluster.visits[0].over.wait(PATIENCE + 4)
    with pytest.raises(Cut):
        client.read_answer()


@pytest.mark.planes
def test_a_request_with_several_connection_options_ends_its_connection(client: RawClient) -> None:
    answer = client.ask("GET", "/wallets", "TE: trailers", "Connection: TE, close")
    assert (answer.body, answer.all("connection")) == (b"ok", ["close"])
    assert client.is_closed()


@pytest.mark.planes
def test_a_later_version_than_1_1_is_answered_in_1_1(client: RawClient) -> None:
    for _ in range(2):
        assert client.ask("GET", "/wallets", version="1.9").start == "HTTP/1.1 200 OK"


# Many slow clients.


def half_a_head(client: RawClient) -> None:
    client.send(client.head("GET", "/wallets")[:-10])


def half_a_body(client: RawClient) -> None:
    client.send(client.head("POST", "/wallets", "Content-Length: 1000") + b"hello")


def no_reading(client: RawClient) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.send(client.head("GET", "/wallets/big"))


def answer_by_target(visit: Visit) -> None:
    visit.send(BIG_ANSWER if visit.request.target.endswith("/big") else OK)


@pytest.mark.planes
@pytest.mark.quiet
@pytest.mark.parametrize("slowness", [half_a_head, half_a_body, no_reading])
def test_two_hundred_slow_clients_do_not_keep_others_from_their_answers(
    hasty: tuple[Gateway, str], client: RawClient, cluster: RawCluster, slowness: object
) -> None:
    cluster.behaviour = answer_by_target
    gateway, token = hasty
    with contextlib.ExitStack() as stack:
        for _ in range(SLOW):
            slowness(stack.enter_context(RawClient(gateway.port, token)))  # type: ignore[operator]
        times = [timed(client) for _ in range(200)]
    assert statistics.quantiles(times, n=100)[-1] < 3  # served one after another, they would take minutes


def timed(client: RawClient) -> float:
    started = time.monotonic()
    assert client.ask("GET", "/wallets/small").body == b"ok"
    return time.monotonic() - started
