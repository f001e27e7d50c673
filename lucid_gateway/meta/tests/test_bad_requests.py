"""Bad requests to a real gateway: each gets the envelope with the contract's code, and no connection is lost."""

import pytest

from testing.gateway import Gateway
from testing.raw_http import RawConnection, request_bytes

INFO = "/api/v1/meta/info"
LOGIN = "/api/v1/auth/login"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        (f"GET {INFO} HTTP/1.1\r\n\r\n".encode(), 400, "1001"),
        (f"GET {INFO} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode(), 400, "1001"),
        (request_bytes("GET", INFO, host=""), 400, "1001"),
        (request_bytes("GET", INFO, host="evil.example"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost.evil.example"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost,localhost"), 400, "1001"),
        (request_bytes("GET", INFO, host="localhost:x"), 400, "1001"),
        (request_bytes("GET", INFO, "X-Forwarded-Host: localhost", host="evil.example"), 400, "1001"),
        (request_bytes("GET", f"http://evil.example{INFO}"), 400, "1001"),
        (request_bytes("GET", f"http://evil.example{INFO}", host="evil.example"), 400, "1001"),
        (request_bytes("GET", "/"), 404, "4001"),
        (request_bytes("GET", "/api/v1"), 404, "4001"),
        (request_bytes("GET", "/api/v2/meta/info"), 404, "4001"),
        (request_bytes("GET", "/API/v1/meta/info"), 404, "4001"),
        (request_bytes("GET", "/static/no-such-file.css"), 404, "4001"),
        (request_bytes("OPTIONS", "*"), 404, "4001"),
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
        (request_bytes("GET", "/api/v1/%2e%2e/admin"), 400, "1001"),
        (request_bytes("GET", "/api/v1/%00"), 400, "1001"),
        (request_bytes("GET", "/api/v1/%ff"), 400, "1001"),
        (request_bytes("GET", "//evil.example/"), 400, "1001"),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else None,
)
def test_it_is_the_envelope_and_the_connection_goes_on(
    gateway: Gateway, request_head: bytes, status: int, code: str
) -> None:
    with RawConnection(gateway.port) as connection:
        connection.send(request_head)
        answer = connection.read()

        assert (answer.status, answer.code) == (status, code)
        assert answer.header("Content-Length") == str(len(answer.body))
        assert status != 405 or answer.header("Allow")
        connection.send(request_bytes("GET", "/api/v1/meta/health/live"))
        assert connection.read().status == 200


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*;q=0"])
def test_errors_are_json_whatever_is_accepted(gateway: Gateway, accept: str) -> None:
    with RawConnection(gateway.port) as connection:
        connection.send(request_bytes("GET", "/api/v1/users/me", f"Accept: {accept}"))

        assert connection.read().code == "2001"
