"""nginx with the deployed configuration and a real server: TLS, forwarded requests, streaming, and its own errors."""

import json
import socket
import ssl
import uuid
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.tests.backend import WAIT_SECONDS, Backend
from deploy.tests.conftest import Nginx, StartNginx, run
from testing.http.messages import Message
from testing.http.wire import Wire
from testing.servers import free_port
from testing.waiting import wait_until


def exchange(connection: socket.socket, request: bytes) -> Message:
    """Send raw bytes; return the answer."""
    with Wire(connection) as wire:
        wire.send(request)
        return wire.read_answer()


def get(nginx: Nginx, target: str, *header_lines: str) -> Message:
    """GET the target over TLS; return the answer."""
    lines = [f"GET {target} HTTP/1.1", "Host: localhost:8081", "Connection: close", *header_lines, "", ""]
    return exchange(nginx.connect(), "\r\n".join(lines).encode("latin-1"))


def headers_at_backend(nginx: Nginx, *header_lines: str) -> dict[str, list[str]]:
    """Send these header lines; return the values of each header that the backend received."""
    seen = get(nginx, "/headers", *header_lines).json()
    found: dict[str, list[str]] = {}
    for name, value in seen["headers"]:
        found.setdefault(name, []).append(value)
    return found


def upload(path: str, body: bytes) -> bytes:
    """Return a chunked request with one chunk."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def assert_is_envelope(answer: Message, status: int, code: str) -> None:
    """Check the error envelope, its content type and its request id."""
    error = answer.error()
    assert (answer.status, error["code"]) == (status, code)
    assert error["message"]
    assert error["details"] == {}
    assert uuid.UUID(error["request_id"]).version == 4
    assert error["timestamp"].endswith("Z")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(error["timestamp"])) < timedelta(minutes=1)


def log_entry(nginx: Nginx, path: str) -> dict[str, Any]:
    """Return the access log's entry for the path; nginx writes it shortly after the client has the answer."""

    def entries() -> list[dict[str, Any]]:
        lines = (nginx.folder / "access.log").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["path"] == path]

    return wait_until(entries)[0]


# TLS


def handshake(nginx: Nginx, version: ssl.TLSVersion) -> str | None:
    """Offer exactly this TLS version; return the negotiated one, or raise SSLError."""
    context = ssl.create_default_context(cafile=str(nginx.certificate))
    # OpenSSL would not offer TLS 1.1 at its default level; here nginx must be the one that refuses.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", nginx.https_port), timeout=WAIT_SECONDS)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
        return secure.version()


def test_nginx_accepts_its_own_configuration(nginx: Nginx) -> None:
    checked = run(*nginx.command, "-t")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_versions_work(nginx: Nginx, version: ssl.TLSVersion) -> None:
    assert handshake(nginx, version) == version.name.replace("_", ".")


def test_tls_1_1_is_refused_by_the_server(nginx: Nginx) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        handshake(nginx, ssl.TLSVersion.TLSv1_1)


def test_http_2_is_offered(nginx: Nginx) -> None:
    context = ssl.create_default_context(cafile=str(nginx.certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", nginx.https_port), timeout=WAIT_SECONDS)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
        assert secure.selected_alpn_protocol() == "h2"


# Requests at the gateway


@pytest.mark.parametrize(
    "target", ["/api/v1/a%2Fb//c", "/api/v1/%61/../b?x=%2F&y=a+b", "//api/./v1", "/a;p=1/%2e%2e/b", "//.nginx-error"]
)
def test_the_request_target_is_passed_on_unchanged(nginx: Nginx, target: str) -> None:
    assert get(nginx, target).json()["target"] == target


def test_forwarded_headers_of_the_client_are_replaced(nginx: Nginx) -> None:
    forged = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil.example"]
    seen = headers_at_backend(nginx, *forged)
    assert seen["x-forwarded-for"] == ["127.0.0.1"]
    assert seen["x-forwarded-proto"] == ["https"]
    assert seen["x-forwarded-host"] == seen["host"] == ["localhost:8081"]


def test_other_ways_to_claim_an_address_are_dropped(nginx: Nginx) -> None:
    claims = [
        "Forwarded: for=203.0.113.7",
        "X-Real-IP: 203.0.113.7",
        "X-Forwarded-Port: 1",
        "X_Forwarded_For: 203.0.113.7",
    ]
    seen = headers_at_backend(nginx, *claims)
    assert not {"forwarded", "x-real-ip", "x-forwarded-port", "x_forwarded_for"} & set(seen)


def test_each_request_gets_its_own_id_whatever_the_client_sent(nginx: Nginx) -> None:
    ids = [headers_at_backend(nginx, "X-Request-ID: chosen-by-client")["x-request-id"] for _ in range(2)]
    assert [len(values) for values in ids] == [1, 1]
    assert ids[0] != ids[1]
    assert [uuid.UUID(values[0]).version for values in ids] == [4, 4]


def test_the_plain_port_serves_the_same_and_reports_http(nginx: Nginx) -> None:
    plain = socket.create_connection(("127.0.0.1", nginx.http_port), timeout=WAIT_SECONDS)
    answer = exchange(plain, b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n\r\n")
    assert ["x-forwarded-proto", "http"] in answer.json()["headers"]


def test_the_headers_of_an_answer_cannot_steer_nginx(nginx: Nginx) -> None:
    answer = get(nginx, "/steered")
    assert answer.status == 302
    assert answer.header("Location") == "http://gateway/next"
    assert answer.header("X-Accel-Redirect") is None


def test_the_log_has_no_query(nginx: Nginx) -> None:
    get(nginx, "/api/v1/logged?token=s3cret")
    entry = log_entry(nginx, "/api/v1/logged")
    assert (entry["method"], entry["status"], entry["client"]) == ("GET", 200, "127.0.0.1")
    assert "s3cret" not in (nginx.folder / "access.log").read_text()


# Streaming


def test_a_streamed_answer_arrives_event_by_event(nginx: Nginx, backend: Backend) -> None:
    with Wire(nginx.connect()) as wire:
        wire.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        backend.to_send.put(b"data: 1\n\n")
        events = wire.chunks(wire.read_head())
        assert next(events) == b"data: 1\n\n"
        backend.to_send.put(b"data: 2\n\n")  # sent only now, after the first has arrived
        assert next(events) == b"data: 2\n\n"
        backend.to_send.put(b"")
        assert list(events) == []


def test_a_disconnected_client_ends_the_stream_at_the_gateway(nginx: Nginx, backend: Backend) -> None:
    backend.client_left.clear()
    with nginx.connect() as connection:
        connection.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        backend.to_send.put(b"data: 1\n\n")
        assert connection.recv(4096)
    for _ in range(20):
        backend.to_send.put(b"data: more\n\n")
        if backend.client_left.wait(0.05):
            break
    assert backend.client_left.is_set()
    backend.to_send.queue.clear()


def test_an_upload_reaches_the_gateway_before_it_is_complete(nginx: Nginx, backend: Backend) -> None:
    with Wire(nginx.connect()) as wire:
        wire.send(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert backend.received.get(timeout=WAIT_SECONDS) == b"first"
        wire.send(b"4\r\nlast\r\n0\r\n\r\n")
        assert backend.received.get(timeout=WAIT_SECONDS) == b"last"
        assert wire.read_answer().status == 201


def test_an_upload_of_any_size_is_left_to_the_gateway(nginx: Nginx, backend: Backend) -> None:
    answer = exchange(nginx.connect(), upload("/upload", b"x" * 3_000_000))  # nginx's own default limit is 1 MiB
    assert answer.status == 201
    arrived = sum(len(backend.received.get_nowait()) for _ in range(backend.received.qsize()))
    assert arrived == 3_000_000


def test_a_refusal_during_an_upload_reaches_the_client(nginx: Nginx) -> None:
    # This works only because the gateway reads on briefly after its answer; a plain close often results in 502.
    answer = exchange(nginx.connect(), upload("/refused", b"x" * 3_000_000))
    assert (answer.status, answer.body) == (401, b'{"error":{}}')


# Errors from nginx itself


def test_a_gateway_that_is_down_gives_502_in_the_envelope(start_nginx: StartNginx) -> None:
    nginx = start_nginx(f"127.0.0.1:{free_port()}")
    answer = exchange(nginx.connect(), b"POST /api/v1/x?y=z HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert_is_envelope(answer, 502, "LUCID_ERR_5005")
    entry = log_entry(nginx, "/api/v1/x")
    assert (entry["method"], entry["request_id"]) == ("POST", answer.header("X-Request-ID"))


def test_a_gateway_that_never_answers_gives_504_in_the_envelope(start_nginx: StartNginx, backend: Backend) -> None:
    nginx = start_nginx(f"127.0.0.1:{backend.port}", {"proxy_read_timeout 1h": "proxy_read_timeout 200ms"})
    answer = exchange(nginx.connect(), b"GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert_is_envelope(answer, 504, "LUCID_ERR_5006")


def test_plain_http_on_the_tls_port_gives_400_in_the_envelope(nginx: Nginx) -> None:
    plain = socket.create_connection(("127.0.0.1", nginx.https_port), timeout=WAIT_SECONDS)
    answer = exchange(plain, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert_is_envelope(answer, 400, "LUCID_ERR_1001")
    assert "HTTPS" in answer.json()["error"]["message"]


LONG = b"a" * 17_000
BAD_REQUESTS = {
    "no request line": (b"nonsense\r\n\r\n", 400, "LUCID_ERR_1001"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "LUCID_ERR_1001"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "LUCID_ERR_1001"),
    "path above the root": (b"GET /../../etc HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "LUCID_ERR_1001"),
    "both framing headers": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400, "LUCID_ERR_1001",
    ),
    "long target": (b"GET /" + LONG + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, "LUCID_ERR_1001"),
    "long header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + LONG + b"\r\n\r\n", 431, "LUCID_ERR_1001"),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "LUCID_ERR_4003"),
    "unknown transfer coding": (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: rot13\r\n\r\n", 501, "LUCID_ERR_1001",
    ),
    "http 3.0": (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505, "LUCID_ERR_1001"),
    "the error page itself": (b"GET /.nginx-error?tls HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "LUCID_ERR_4001"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_request_that_nginx_refuses_gets_the_envelope(nginx: Nginx, name: str) -> None:
    request, status, code = BAD_REQUESTS[name]
    assert_is_envelope(exchange(nginx.connect(), request), status, code)


def test_a_refused_method_gets_the_list_of_allowed_ones(nginx: Nginx) -> None:
    answer = exchange(nginx.connect(), b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert "GET" in (answer.header("Allow") or "")


def test_a_limit_that_an_operator_adds_gives_413_in_the_envelope(start_nginx: StartNginx, backend: Backend) -> None:
    nginx = start_nginx(f"127.0.0.1:{backend.port}", {"client_max_body_size 0": "client_max_body_size 1k"})
    answer = exchange(nginx.connect(), b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n\r\n")
    assert_is_envelope(answer, 413, "LUCID_ERR_1010")
