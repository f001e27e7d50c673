"""The access log of a real gateway: one line per request, with the facts that operators need and no secrets."""

import json
from typing import Any

import pytest

from lucid_gateway.tests.conftest import Service
from testing.gateway import Gateway
from testing.http.client import RawClient, ask, request_bytes
from testing.http.messages import Message
from testing.waiting import wait_until

ANSWERED = {"outcome": "complete", "client": "127.0.0.1"}


def lines_of(gateway: Gateway, request_id: str | None) -> list[dict[str, Any]]:
    """Wait for a request's first line, and return its lines."""
    return wait_until(lambda: [line for line in gateway.access_lines() if line["request_id"] == request_id])


def line_of(gateway: Gateway, answer: Message) -> dict[str, Any]:
    """Return the only line of an answered request."""
    found = lines_of(gateway, answer.header("X-Request-ID"))
    assert len(found) == 1
    return found[0]


def get(gateway: Gateway, path: str, token: str = "", method: str = "GET") -> Message:
    fields = [f"Authorization: Bearer {token}"] if token else []
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes(method, f"/api/v1{path}", *fields))
        return connection.read_answer(method)


def test_a_request_writes_one_line(gateway: Gateway) -> None:
    answer = get(gateway, "/meta/info")
    line = line_of(gateway, answer)

    assert line.items() >= (ANSWERED | {"event": "request", "level": "info"}).items()
    assert line["method"], line["path"] == ("GET", "/api/v1/meta/info")
    assert (line["route"], line["status"]) == ("api/v1/meta/info", 200)
    assert line["response_bytes"] == len(answer.body)
    assert 0 < line["duration_ms"] < 10_000
    assert (line["user_id"], line["cluster"], line["error_code"]) == (None, None, None)


@pytest.mark.parametrize("path", ["/meta/version", "/nowhere"])
def test_head_has_the_length_of_get_and_no_body(gateway: Gateway, path: str) -> None:
    whole, head = get(gateway, path), get(gateway, path, method="HEAD")

    assert head.header("Content-Length") == str(len(whole.body))
    assert line_of(gateway, head)["response_bytes"] == 0
    assert "no-body response" not in gateway.log.read_text()


@pytest.mark.parametrize(
    ("entry", "client"), [("4.4.4.4:5555", "4.4.4.4"), ("[2001:db8::1]:443", "2001:db8::1"), ("4.4.4.4:x", "127.0.0.1")]
)
def test_the_client_behind_a_proxy_is_logged_without_its_port(service: Service, entry: str, client: str) -> None:
    answer = ask(
        service.gateway.port, request_bytes("GET", "/api/v1/meta/info", f"X-Forwarded-For: 9.9.9.9:9, {entry}")
    )

    assert line_of(service.gateway, answer)["client"] == client


def test_an_error_is_logged_with_its_code(gateway: Gateway) -> None:
    line = line_of(gateway, get(gateway, "/chain/info"))

    assert (line["status"], line["error_code"], line["user_id"]) == (401, "LUCID_ERR_2001", None)


def test_a_refused_path_is_logged_too(gateway: Gateway) -> None:
    line = line_of(gateway, get(gateway, "/../admin"))

    assert (line["status"], line["route"]) == (400, None)


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("/chain/info", ["path", "route", "identity:credentials_missing"]),
        ("/nowhere", ["path", "route:unknown_path"]),
        ("/../admin", ["path:ambiguous_target"]),
    ],
)
def test_a_refusal_is_logged_with_the_steps_that_led_to_it(gateway: Gateway, path: str, steps: list[str]) -> None:
    line = line_of(gateway, get(gateway, path))

    assert line["steps"] == steps
    assert line["reason"] == steps[-1].partition(":")[2]


def test_a_missing_permission_is_the_last_of_the_logged_steps(gateway: Gateway, gateway_token: str) -> None:
    line = line_of(gateway, get(gateway, "/admin/users", gateway_token))

    passed = ["path", "route", "identity", "lock", "revocation", "epoch"]
    assert (line["reason"], line["steps"]) == ("permission_missing", [*passed, "permission:permission_missing"])


def test_an_admitted_request_is_logged_without_steps(gateway: Gateway) -> None:
    line = line_of(gateway, get(gateway, "/meta/info"))

    assert (line["reason"], line["steps"]) == (None, None)


def test_a_malformed_request_is_logged_with_its_id_and_reason(gateway: Gateway) -> None:
    answer = ask(gateway.port, b"GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n")
    request_id = answer.header("X-Request-ID")
    wait_until(lambda: request_id in gateway.logged())

    [line] = [json.loads(line) for line in gateway.logged().splitlines() if request_id in line]

    assert (line["event"], line["reason"], line["client"]) == ("malformed request", "malformed_request", "127.0.0.1")


def test_a_forwarded_request_is_logged_with_user_cluster_and_upstream(gateway: Gateway, gateway_token: str) -> None:
    answer = get(gateway, "/chain/consensus/demo/bytes/200000", gateway_token)
    line = line_of(gateway, answer)

    assert len(answer.body) == line["response_bytes"] == 200_000
    assert (line["cluster"], line["upstream_status"], line["status"]) == ("blockchain_core", 200, 200)
    assert len(line["user_id"]) == 36
    assert 0 < line["upstream_ms"] <= line["duration_ms"]
    assert line["outcome"] == "complete"


@pytest.mark.parametrize("path", ["/chain/consensus/demo/status/204", "/chain/consensus/demo/status/304"])
def test_an_answer_without_a_body_is_complete(gateway: Gateway, gateway_token: str, path: str) -> None:
    line = line_of(gateway, get(gateway, path, gateway_token))

    assert (line["response_bytes"], line["outcome"]) == (0, "complete")


def test_a_head_request_is_complete(gateway: Gateway, gateway_token: str) -> None:
    line = line_of(gateway, get(gateway, "/chain/info", gateway_token, "HEAD"))

    assert (line["status"], line["outcome"], line["response_bytes"]) == (200, "complete", 0)


def test_a_client_that_leaves_is_logged(gateway: Gateway, gateway_token: str) -> None:
    with RawClient(gateway.port) as connection:
        path = "/api/v1/chain/consensus/demo/events?count=1000&interval=0.05"
        connection.send(request_bytes("GET", path, f"Authorization: Bearer {gateway_token}"))
        request_id = connection.read_head().header("X-Request-ID")
    line = lines_of(gateway, request_id)[0]

    assert (line["status"], line["outcome"]) == (200, "client_left")


def test_neither_query_nor_token_is_logged(gateway: Gateway, gateway_token: str) -> None:
    line_of(gateway, get(gateway, "/chain/consensus/echo?code=123456&q=hush", gateway_token))
    line_of(gateway, get(gateway, "/chain/info?code=123456&q=hush", "not.a.token-hush"))

    log = gateway.log.read_text()
    assert "hush" not in log
    assert "123456" not in log
    assert gateway_token not in log


def test_a_malformed_request_is_logged_with_its_client(gateway: Gateway) -> None:
    written = len(gateway.log.read_text())
    ask(gateway.port, b"nonsense\r\n\r\n")

    lines = [line for line in gateway.log.read_text()[written:].splitlines() if "malformed request" in line]
    assert len(lines) == 1
    assert '"client":"127.0.0.1"' in lines[0]
    assert '"error":"InvalidRequestLine"' in lines[0]
