"""The audit lines of a real gateway's log."""

import json
from typing import Any

from testing.gateway import Gateway
from testing.http.client import RawClient, request_bytes
from testing.waiting import wait_until


def audit_lines(gateway: Gateway, request_id: str) -> list[dict[str, Any]]:
    """Return the audit lines of a request so far."""
    lines = [json.loads(line) for line in gateway.logged().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == "audit" and line["request_id"] == request_id]


def test_a_change_is_logged_without_the_old_and_new_values(gateway: Gateway, gateway_token: str) -> None:
    body = b'{"first_name": "Augusta-Ada"}'
    fields = [f"Authorization: Bearer {gateway_token}", "Content-Type: application/json"]
    with RawClient(gateway.port) as connection:
        connection.send(request_bytes("PATCH", "/api/v1/users/me", *fields, body=body))
        answer = connection.read_answer("PATCH")
    assert answer.start.split()[1] == "200"

    (line,) = wait_until(lambda: audit_lines(gateway, answer.header("X-Request-ID") or ""))
    assert (line["type"], line["details"]) == ("user.updated", {"fields": ["first_name"]})
