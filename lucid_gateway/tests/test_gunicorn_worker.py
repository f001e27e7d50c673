"""Requests that the HTTP parser refuses get the envelope and a closed connection, never HTML."""

import contextlib

import pytest

from testing.gateway import Gateway
from testing.http.client import RawClient, ask, request_bytes

LIVE = request_bytes("GET", "/api/v1/meta/health/live")
HOST = b"Host: localhost\r\n"
POST = b"POST /api/v1/auth/login HTTP/1.1\r\n" + HOST


@pytest.mark.parametrize(
    ("status", "request_head"),
    [
        (400, b"garbage\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"),
        (400, b"GET /\r\n\r\n"),
        (505, b"GET / x HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (505, b"GET / HTTP/3.0\r\n" + HOST + b"\r\n"),
        (400, b"GET http://[ HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"space : x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: 1\r\n folded\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\0b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: localhost\n\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n"),
        (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
        (400, POST + b"Content-Length: +5\r\n\r\nabcde"),
        (400, POST + b"Content-Length: 0x5\r\n\r\nabcde"),
        (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        (501, POST + b"Transfer-Encoding: weird\r\n\r\n"),
        (417, POST + b"Content-Length: 2\r\nExpect: miracles\r\n\r\n{}"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 17_000 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + HOST + b"X-A: a\r\n" * 101 + b"\r\n"),
        (414, b"GET /" + b"a" * 8_200 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + HOST + b"Content-Type: a/b; x*=nonsense''%41\r\n\r\n"),
        (400, POST + b"Content-Length: 2\r\nContent-Type: application/json; x*=nonsense''%41\r\n\r\n{}"),
    ],
    ids=lambda value: repr(value)[-60:] if isinstance(value, bytes) else None,
)
def test_a_malformed_request_gets_the_envelope_and_the_connection_ends(
    gateway: Gateway, status: int, request_head: bytes
) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_head)
        answer = connection.read_answer()

        assert (answer.status, answer.code) == (status, "1001")
        assert answer.header("Connection") == "close"
        assert connection.is_closed()


def test_incomplete_header_blocks_do_not_delay_others(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            slow = stack.enter_context(RawClient(gateway.port))
            slow.send(b"GET /api/v1/meta/info HTTP/1.1\r\nHost: loc")

        assert [ask(gateway.port, LIVE).status for _ in range(10)] == [200] * 10


def test_incomplete_bodies_do_not_delay_others(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            slow = stack.enter_context(RawClient(gateway.port))
            slow.send(POST + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")

        assert [ask(gateway.port, LIVE).status for _ in range(10)] == [200] * 10


def test_trace_is_not_allowed(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("TRACE", "/api/v1/meta/info", "Cookie: secret"))

    assert (answer.status, answer.code) == (405, "4003")
    assert b"secret" not in answer.body


def test_a_connection_is_reused(gateway: Gateway) -> None:
    with RawClient(gateway.port) as connection:
        for _ in range(3):
            connection.send(LIVE)
            assert connection.read_answer().status == 200


def test_clients_cannot_set_the_scheme_or_the_script_name(gateway: Gateway) -> None:
    fields = ["X-Forwarded-Proto: https", "SCRIPT_NAME: /api", "Script-Name: /api", "X-Forwarded-Ssl: on"]

    answer = ask(gateway.port, request_bytes("GET", "/api/v1/meta/info", *fields))

    assert answer.status == 200
    assert answer.header("Strict-Transport-Security") is None
