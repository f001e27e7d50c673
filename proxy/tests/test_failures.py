"""Why an instance failed, in words for operators."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from lucid_gateway.policy.errors import BadUpstreamAnswer
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.failures import failure_words
from proxy.choosing.health_checks import problem_of
from proxy.clusters import Instance
from proxy.connection.upstream import ConnectTimeout
from testing.http.cluster import RawCluster, saying, saying_and_closing
from testing.servers import free_port

PATIENT = Timeouts(connect=2, read=2, total=2)
HASTY = Timeouts(connect=2, read=0.2, total=2)
ANSWERS = {
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n": "status 503 for /health",
    b"nonsense\r\n\r\n": "bad answer: not well-formed HTTP",
    b"": "the connection closed without an answer",
    b"HTTP/1.1 200": "bad answer: the answer broke off",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n": "bad answer: not well-formed HTTP",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_words_for_an_answer(raw_cluster: RawCluster, answer: bytes) -> None:
    raw_cluster.behaviour = saying_and_closing(answer)
    assert problem_of(raw_cluster.instance, "/health", PATIENT) == ANSWERS[answer]


def test_the_words_for_an_instance_that_hangs(raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying()
    assert problem_of(raw_cluster.instance, "/health", HASTY) == "no answer within 0.2 s"


def test_the_words_for_a_port_without_a_listener() -> None:
    assert problem_of(Instance("http", "127.0.0.1", free_port()), "/", PATIENT) == "connection refused"


def test_the_words_for_an_unknown_name() -> None:
    assert problem_of(Instance("http", "no-such-host.invalid", 80), "/", PATIENT) == "the name has no address"


def test_the_words_for_a_port_that_does_not_speak_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        sent = threads.submit(lambda: answer_in_plain_text(server))
        problem = problem_of(Instance("https", "127.0.0.1", server.getsockname()[1]), "/", PATIENT)
        sent.result()
    assert problem == "TLS: wrong version number"


def answer_in_plain_text(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


ERRORS = [
    (ConnectTimeout(2.0), "no connection within 2 s"),
    (BadUpstreamAnswer(details={"reason": "header fields too large"}), "bad answer: header fields too large"),
    (ConnectionResetError(104, "reset"), "the connection broke off"),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_words_for_other_errors(error: Exception, words: str) -> None:
    assert failure_words(error) == words
