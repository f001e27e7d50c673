"""How the worker writes answers to a connection."""

import socket
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser

from lucid_gateway.server.worker_answers import GatewayResponse

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The gateway's and the client's end of a connection on which each `recv` returns what one `send` has sent."""
    gateway, client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with gateway, client:
        client.settimeout(5)
        yield gateway, client


def answer_on(gateway: socket.socket, fields: list[tuple[str, str]]) -> GatewayResponse:
    """Return an answer of which nothing has been sent yet."""
    request = next(RequestParser(Config(), [REQUEST], ("127.0.0.1", 1)))
    answer = GatewayResponse(request, gateway, Config())
    answer.start_response("200 OK", fields)
    return answer


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [([("Content-Length", "4")], b"ab", b"cd"), ([], b"2\r\nab\r\n", b"2\r\ncd\r\n")],
    ids=["with a length", "chunked"],
)
def test_the_head_and_the_first_piece_are_one_packet(
    ends: Ends, fields: list[tuple[str, str]], first: bytes, second: bytes
) -> None:
    gateway, client = ends
    answer = answer_on(gateway, fields)
    answer.write(b"ab")
    answer.write(b"cd")

    head, _, piece = client.recv(4096).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece == first
    assert client.recv(4096) == second


def test_the_head_does_not_wait_for_the_body(ends: Ends) -> None:
    gateway, client = ends
    answer = answer_on(gateway, [])
    answer.write(b"")

    assert client.recv(4096).endswith(b"\r\n\r\n")
