"""The request target checks: one Host, one canonical path, one framing of the body."""

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from conftest import ApiClient, error_code
from proxy.forwarding.request_target import RequestTargetMiddleware
from testing.gateway import Gateway
from testing.http.client import ask, request_bytes

pytestmark = pytest.mark.planes


def path_seen(target: str, **meta: Any) -> str | None:
    """Return the path that inner layers see for a request target, or None if the request is refused."""
    seen = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(request.path_info)
        assert request.path == request.path_info == request.META["PATH_INFO"]
        return HttpResponse()

    request = RequestFactory().get("/", **({"HTTP_HOST": "localhost", "RAW_URI": target} | meta))
    response = RequestTargetMiddleware(view)(request)
    assert bool(seen) == (response.status_code == 200)
    assert seen or response.status_code == 400
    return seen[0] if seen else None


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/api/v1/chain/info", "/api/v1/chain/info"),
        ("/api/v1/chain/info/", "/api/v1/chain/info"),
        ("/api/v1/chain/info?next=/admin/../x", "/api/v1/chain/info"),
        ("/api/v1/%63hain/info", "/api/v1/chain/info"),
        ("/admin/login/", "/admin/login/"),
        ("/api/", "/api/"),
        ("/", "/"),
        ("http://localhost/api/v1/users/", "/api/v1/users"),
        ("http://localhost", "/"),
        ("http://LOCALHOST/x", "/x"),
        ("http://localhost?x=/admin", "/"),
        ("http://localhost?x=http://localhost/admin", "/"),
        ("*", "/*"),
    ],
)
def test_inner_layers_see_the_canonical_path(target: str, path: str) -> None:
    assert path_seen(target) == path


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/../admin",
        "/api/v1/%2e%2e/admin",
        "//evil.example/x",
        "/api/v1//users",
        "/api/v1/users//",
        "/%00",
        "/%ff",
    ],
)
def test_an_ambiguous_path_is_refused(target: str) -> None:
    assert path_seen(target) is None


@pytest.mark.parametrize("host", ["", "localhost,localhost"])
def test_exactly_one_host_is_required(host: str) -> None:
    assert path_seen("/", HTTP_HOST=host) is None


@pytest.mark.parametrize(
    "target", ["http://evil.example/x", "http://localhost:81/x", "http://user@localhost/x", "localhost:80", "evil"]
)
def test_the_target_must_not_name_another_host(target: str) -> None:
    assert path_seen(target) is None


@pytest.mark.parametrize("target", ["ftp://localhost/x", "ws://localhost/x", "//localhost/x", "mailto:localhost"])
def test_an_absolute_target_must_use_http(target: str) -> None:
    assert path_seen(target) is None


@pytest.mark.parametrize("target", ["/x#y", "/x?y#z", "/#", "/x?#", "http://localhost/x#y", "http://localhost#y"])
def test_a_target_with_a_fragment_is_refused(target: str) -> None:
    assert path_seen(target) is None


@pytest.mark.parametrize(
    "host", ["localhost:65536", "localhost:4294967376", "localhost:80a", "localhost:-80", "[::1]:0x50"]
)
def test_a_host_with_an_invalid_port_is_refused(host: str) -> None:
    assert path_seen("/", HTTP_HOST=host) is None
    assert path_seen(f"http://{host}/", HTTP_HOST=host) is None


@pytest.mark.parametrize(
    "host", ["localhost:65535", "localhost:00080", "localhost:", "[::1]", "[::1]:80", "127.0.0.1:1"]
)
def test_a_host_with_a_valid_port_is_served(host: str) -> None:
    assert path_seen("/", HTTP_HOST=host) == "/"


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity", "chunked, chunked"])
def test_other_transfer_codings_than_chunked_are_refused(coding: str) -> None:
    assert path_seen("/", HTTP_TRANSFER_ENCODING=coding) is None
    assert path_seen("/", HTTP_TRANSFER_ENCODING="Chunked") == "/"


def test_paths_that_the_server_has_decoded_follow_the_same_rules(api: ApiClient) -> None:
    assert error_code(api.get("/api/v1/%2e%2e/admin")) == "1001"
    assert error_code(api.get("/api/v1/nothing-here")) == "4001"


def test_a_path_in_the_query_of_an_absolute_target_is_not_served(gateway: Gateway) -> None:
    answer = ask(gateway.port, request_bytes("GET", "http://localhost?x=/api/v1/meta/info"))

    assert (answer.status, list(json.loads(answer.body))) == (200, ["service", "links"])  # as of GET /


def test_a_compressed_transfer_coding_is_refused(gateway: Gateway) -> None:
    request = request_bytes("POST", "/api/v1/auth/login", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n"

    answer = ask(gateway.port, request)

    assert (answer.status, answer.code) == (400, "1001")


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/api/v1/meta/info#x", "localhost"),
        ("/api/v1/meta/info?x#y", "localhost"),
        ("ftp://localhost/api/v1/meta/info", "localhost"),
        ("/api/v1/meta/info", "localhost:65536"),
    ],
)
def test_a_real_gateway_refuses_invalid_targets_and_hosts(gateway: Gateway, target: str, host: str) -> None:
    answer = ask(gateway.port, request_bytes("GET", target, host=host))

    assert (answer.status, answer.code) == (400, "1001")
