"""Clients that send more than the gateway needs get their answers, and do not delay other clients."""

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from testing.gateway import Gateway, running_gateway
from testing.http.client import RawClient, ask, request_bytes

MIB = 1024 * 1024
LIVE = request_bytes("GET", "/api/v1/meta/health/live")
POUR_SECONDS = 4.0
MANY = 1000
LENGTH, CHUNKED = "Content-Length: 107374182400", "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def single() -> Iterator[Gateway]:
    """A gateway with one worker, so that a client that keeps it busy delays all others."""
    with running_gateway(WEB_CONCURRENCY="1", RATE_LIMIT_ENABLED="false") as running:
        yield running


def pour(port: int, framing: str, over: threading.Event) -> None:
    """Send a body as fast as possible, until the gateway closes the connection or POUR_SECONDS are over."""
    piece = (b"100000\r\n" + bytes(MIB) + b"\r\n") if framing == CHUNKED else bytes(MIB)
    until = time.monotonic() + POUR_SECONDS
    with contextlib.suppress(OSError), RawClient(port) as connection:
        connection.sock.sendall(request_bytes("POST", "/nope", framing))
        while time.monotonic() < until:
            connection.sock.sendall(piece)
        over.set()


def timed(port: int) -> float:
    started = time.monotonic()
    assert ask(port, LIVE).status == 200
    return time.monotonic() - started


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
def test_an_endless_refused_body_is_cut_off_and_delays_no_other_client(single: Gateway, framing: str) -> None:
    in_time = threading.Event()
    pouring = threading.Thread(target=pour, args=[single.port, framing, in_time])
    pouring.start()
    longest = max(timed(single.port) for _ in range(20))
    pouring.join()

    assert not in_time.is_set(), "the gateway read on"
    assert longest < POUR_SECONDS / 3


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
def test_an_answer_before_a_long_body_closes_the_connection(single: Gateway, framing: str) -> None:
    with RawClient(single.port) as connection:
        connection.send(request_bytes("POST", "/nope", framing))
        answer = connection.read_answer()

        assert (answer.status, answer.header("Connection")) == (404, "close")
        assert connection.is_closed()


def test_a_short_refused_body_keeps_the_connection_open(single: Gateway) -> None:
    with RawClient(single.port) as connection:
        connection.send(request_bytes("POST", "/nope", body=bytes(60_000)))
        answer = connection.read_answer()
        assert (answer.status, answer.header("Connection")) == (404, "keep-alive")
        connection.send(LIVE)
        assert connection.read_answer().status == 200


def test_a_client_that_sends_its_whole_body_before_it_reads_gets_the_refusal(single: Gateway) -> None:
    url = f"http://127.0.0.1:{single.port}/nope"
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(url, data=bytes(11 * MIB), timeout=20)
    assert refusal.value.code == 404
    refusal.value.close()


def test_a_malformed_request_with_trailing_bytes_gets_the_refusal(single: Gateway) -> None:
    with RawClient(single.port) as connection:
        connection.send(b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n" + bytes(60_000))
        time.sleep(0.2)
        assert connection.read_answer().status == 505


def test_a_client_that_pipelines_many_requests_delays_no_other_client(single: Gateway) -> None:
    with RawClient(single.port, timeout=30) as connection:
        sending = threading.Thread(target=connection.send, args=[LIVE * MANY])
        sending.start()
        assert connection.read_answer().status == 200
        reading = threading.Thread(target=lambda: [connection.read_answer() for _ in range(MANY - 1)])
        reading.start()
        timed(single.port)
        not_all_answered = reading.is_alive()
        sending.join()
        reading.join()

        assert not_all_answered, "the others had to wait for the last of them"


# 100 Continue.

EXPECT = "Expect: 100-continue"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize("framing", ["Content-Length: 20", CHUNKED])
@pytest.mark.parametrize(
    ("status", "path", "field"),
    [
        (404, "/nope", JSON),
        (401, "/api/v1/sessions", JSON),
        (401, "/api/v1/sessions", "Authorization: Bearer nonsense"),
        (401, "/api/v1/wallets", JSON),
        (401, "/api/v1/sessions/00000000-0000-4000-8000-000000000000/chunks", JSON),
        (405, "/api/v1/meta/info", JSON),
    ],
)
def test_a_refused_request_gets_no_100_continue(
    single: Gateway, status: int, path: str, field: str, framing: str
) -> None:
    with RawClient(single.port) as connection:
        connection.send(request_bytes("POST", path, field, framing, EXPECT))
        answer = connection.read_answer()

        assert (answer.status, answer.header("Connection")) == (status, "close")
        assert connection.is_closed()


@pytest.mark.parametrize("framing", ["Content-Length: 20", CHUNKED])
def test_an_admitted_request_gets_100_continue(single: Gateway, framing: str) -> None:
    with RawClient(single.port) as connection:
        connection.send(request_bytes("POST", "/api/v1/auth/login", JSON, framing, EXPECT))
        interim = connection.read_head()
        assert (interim.start, interim.fields) == ("HTTP/1.1 100 Continue", [])
        body = b'{"email":"a@b.test"}'
        connection.send(body if framing != CHUNKED else b"14\r\n" + body + b"\r\n0\r\n\r\n")

        assert connection.read_answer().status == 200
        connection.send(LIVE)
        assert connection.read_answer().status == 200


def test_a_request_without_a_body_gets_no_100_continue(single: Gateway) -> None:
    answer = ask(single.port, request_bytes("POST", "/api/v1/auth/login", JSON, "Content-Length: 0", EXPECT))
    assert answer.status == 422
