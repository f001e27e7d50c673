"""Bad requests to a real gateway get the envelope with the API's code, and do not end the connection."""

import gzip
import json

import pytest

from testing.gateway import Gateway
from testing.http.client import RawClient, ask, request_bytes

pytestmark = pytest.mark.planes
# nginx refuses these itself, with the same error but for `*`, and ends the connection.
of_nginx = pytest.mark.django_plane
INFO = "/api/v1/meta/info"
LOGIN = "/api/v1/auth/login"
JSON = "Content-Type: application/json"
HALF_A_MILLION = b'{"email":[' + b"0," * (2**19 - 10) + b"0]}"


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        pytest.param(f"GET {INFO} HTTP/1.1\r\n\r\n".encode(), 400, "1001", marks=of_nginx),
        (f"GET {INFO} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode(), 400, "1001"),
        pytest.param(request_bytes("GET", INFO, host=""), 400, "1001", marks=of_nginx),
        (request_bytes("GET", INFO, host="evil.example"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost.evil.example"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost,localhost"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost:x"), 400, "1001"),
        (request_bytes("GET", INFO, "X-Forwarded-Host: localhost", host="evil.example"), 400, "1001"),
        pytest.param(request_bytes("GET", f"http://evil.example{INFO}"), 400, "1001", marks=of_nginx),
        (request_bytes("GET", f"http://evil.example{INFO}", host="evil.example"), 400, "1001"),
        (request_bytes("POST", "/"), 405, "4003"),
        (request_bytes("GET", "/api/v1"), 404, "4001"),
        (request_bytes("GET", "/api/v2/meta/info"), 404, "4001"),
        (request_bytes("GET", "/API/v1/meta/info"), 404, "4001"),
        (request_bytes("GET", "/static/no-such-file.css"), 404, "4001"),
        pytest.param(request_bytes("OPTIONS", "*"), 404, "4001", marks=of_nginx),
        (request_bytes("POST", "/no/such/path", JSON, body=b"{}"), 404, "4001"),
        (request_bytes("DELETE", INFO), 405, "4003"),
        (request_bytes("BREW", INFO), 405, "4003"),
        (request_bytes("GET", LOGIN), 405, "4003"),
        (request_bytes("POST", LOGIN, JSON, body=b"{"), 400, "1009"),
        (request_bytes("POST", LOGIN, JSON, body=b"[]"), 400, "1009"),
        (request_bytes("POST", LOGIN, JSON, body=b'{"email":"\\ud800"}'), 400, "1009"),
        (request_bytes("POST", LOGIN, JSON, body=b'{"email":' * 40 + b"1" + b"}" * 40), 400, "1009"),
        (request_bytes("POST", LOGIN, f"{JSON}; charset=utf-16", body=b"{}"), 400, "1009"),
        (request_bytes("POST", LOGIN, JSON, body=b"{}"), 422, "1002"),
        (request_bytes("POST", LOGIN, body=b"{}"), 415, "1001"),
        (request_bytes("POST", LOGIN, "Content-Type: text/xml", body=b"<a/>"), 415, "1001"),
        (request_bytes("POST", LOGIN), 422, "1002"),
        (request_bytes("POST", LOGIN, JSON, "Content-Encoding: gzip", body=gzip.compress(b"{}")), 415, "1001"),
        (request_bytes("POST", LOGIN, JSON, "Content-Encoding: identity, br", body=b"{}"), 415, "1001"),
        (request_bytes("POST", LOGIN, JSON, "Content-Encoding: Identity", body=b"{}"), 422, "1002"),
        (request_bytes("POST", LOGIN, JSON, body=HALF_A_MILLION), 400, "1009"),
        (request_bytes("GET", "/api/v1/%2e%2e/admin"), 400, "1001"),
        pytest.param(request_bytes("GET", "/api/v1/%00"), 400, "1001", marks=of_nginx),
        (request_bytes("GET", "/api/v1/%ff"), 400, "1001"),
        (request_bytes("GET", "//evil.example/"), 400, "1001"),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
def test_a_bad_request_gets_the_envelope_and_the_connection_stays_open(
    gateway: Gateway, request_head: bytes, status: int, code: str
) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_head)
        answer = connection.read_answer()

        assert (answer.status, answer.code) == (status, code)
        assert answer.header("Content-Length") == str(len(answer.body))
        assert answer.body.endswith(b"}\n")
        assert status != 405 or answer.header("Allow")
        connection.send(request_bytes("GET", "/api/v1/meta/health/live"))
        assert connection.read_answer().status == 200


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*;q=0"])
def test_errors_are_json_for_every_accept_header(gateway: Gateway, accept: str) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/v1/users/me", f"Accept: {accept}"))

        assert connection.read_answer().code == "2001"


def test_a_refused_content_encoding_lists_the_accepted_one(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("POST", LOGIN, JSON, "Content-Encoding: gzip", body=gzip.compress(b"{}")))

    assert answer.header("Accept-Encoding") == "identity"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_content_length_includes_the_final_newline(gateway: Gateway, method: str) -> None:
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes(method, INFO))
        answer = connection.read_answer(method)
        connection.send(request_bytes("GET", INFO))
        body = connection.read_answer().body

    assert body.endswith(b"}\n")
    assert answer.body == (body if method == "GET" else b"")
    assert answer.header("Content-Length") == str(len(body))


def test_an_answer_without_a_body_has_no_newline(gateway: Gateway, gateway_token: str) -> None:
    devices, token = "/api/v1/users/me/api-keys", f"Authorization: Bearer {gateway_token}"
    new = b'{"name": "short", "permissions": ["user:read"]}'
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("POST", devices, token, JSON, body=new))
        key_id = json.loads(connection.read_answer().body)["key_id"]
        connection.send(request_bytes("DELETE", f"{devices}/{key_id}", token))
        answer = connection.read_answer()
        connection.send(request_bytes("GET", INFO))

        assert (answer.status, answer.header("Content-Length")) == (204, None)
        assert connection.read_answer().status == 200


def test_an_answer_of_the_http_parser_ends_with_a_newline(gateway: Gateway) -> None:
    answer = ask(gateway.port, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n")

    assert (answer.status, answer.body[-1:]) == (400, b"\n")
    assert answer.header("Content-Length") == str(len(answer.body))
