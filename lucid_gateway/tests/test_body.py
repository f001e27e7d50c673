"""The bodies of the small endpoints of a real gateway: they are limited, and may be chunked."""

import json

import pytest

from lucid_gateway.server.body import MAX_SMALL_BODY
from testing.gateway import Gateway
from testing.http.client import RawClient, ask, request_bytes

pytestmark = pytest.mark.planes
LOGIN = "/api/v1/auth/login"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
STILL_THERE = request_bytes("GET", "/api/v1/meta/health/live")


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_body_is_read_as_one_with_a_length(gateway: Gateway, size: int) -> None:
    body = json.dumps({"email": "nobody@example.org"}).encode()

    answer = ask(gateway.port, request_bytes("POST", LOGIN, JSON, CHUNKED) + in_chunks(body, size))

    assert answer.status == 200
    assert json.loads(answer.body)["expires_in"] == 300


def test_a_chunked_body_is_validated_like_any_other(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("POST", LOGIN, JSON, CHUNKED) + in_chunks(b'{"email": "x"}', 3))

    assert (answer.status, answer.code) == (422, "1006")


def test_the_bytes_after_a_chunked_body_are_the_next_request(gateway: Gateway) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("POST", LOGIN, JSON, CHUNKED) + in_chunks(b"{}", 1) + STILL_THERE)

        assert connection.read_answer().code == "1002"
        assert connection.read_answer().status == 200


def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("POST", LOGIN, JSON, f"Content-Length: {MAX_SMALL_BODY + 1}"))

    assert (answer.status, answer.code) == (413, "1010")
    assert answer.error()["details"] == {"limit_bytes": MAX_SMALL_BODY}


def test_chunks_over_the_limit_are_refused_before_the_last_one(gateway: Gateway) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("POST", LOGIN, JSON, CHUNKED))
        for _ in range(17):
            connection.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

        assert connection.read_answer().code == "1010"


@pytest.mark.parametrize("chunked", [True, False])
def test_the_largest_body_is_read(gateway: Gateway, chunked: bool) -> None:
    body = b'{"email": "x"' + b" " * (MAX_SMALL_BODY - 14) + b"}"
    fields = (JSON, CHUNKED) if chunked else (JSON,)
    sent = in_chunks(body, 65_536) if chunked else b""

    answer = ask(gateway.port, request_bytes("POST", LOGIN, *fields, body=b"" if chunked else body) + sent)

    assert (answer.status, answer.code) == (422, "1006")


def test_an_unread_body_is_not_read_as_the_next_request(gateway: Gateway) -> None:
    inner = request_bytes("GET", "/api/v1/meta/info")
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("POST", "/nothing-here", body=inner * 100) + STILL_THERE)

        assert connection.read_answer().code == "4001"
        assert json.loads(connection.read_answer().body) == {"status": "alive"}


@pytest.mark.parametrize("chunks", [b"ZZ\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"2\r\n{}XX0\r\n\r\n", b"2;\n{}\r\n"])
def test_malformed_chunks_are_refused_and_the_connection_ends(gateway: Gateway, chunks: bytes) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("POST", LOGIN, JSON, CHUNKED) + chunks + STILL_THERE)
        answer = connection.read_answer()

        assert (answer.status, answer.code) == (400, "1001")
        assert connection.is_closed()
