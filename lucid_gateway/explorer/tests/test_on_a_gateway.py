"""Requests on a real gateway with two workers are found by their ids: refused ones of each kind, and left ones."""

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from testing.gateway import Gateway, running_gateway
from testing.hammer import api, workers
from testing.http.client import RawClient, ask
from testing.waiting import wait_until

BLOCKED = "203.0.113.66"


SIGN_IN = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from accounts.models import User

admin = User.objects.get(email="admin@lucid.test")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(admin.pk), admin.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
session.save()
print(session.session_key)
"""


@dataclass(frozen=True)
class Explorer:
    """A gateway, tokens of a user and of staff, and a session of staff on the operator pages."""

    gateway: Gateway
    user: str
    staff: str
    session: str

    def page(self, request_id: str) -> str:
        """Return the operator page of a request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.gateway.port}/admin/requests/{request_id}/",
            headers={"Cookie": f"sessionid={self.session}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def get(self, path: str) -> Any:
        """Return the answer to staff as JSON, None if it is 404."""
        request = urllib.request.Request(self.gateway.url + path, headers={"Authorization": f"Bearer {self.staff}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def find(self, request_id: str | None) -> dict[str, Any]:
        """Wait until the request is kept, and return it; its page has its id and status, too."""
        found: dict[str, Any] = wait_until(lambda: self.get(f"/admin/requests/{request_id}"), every=0.2)
        page = self.page(found["request_id"])
        assert f"<code>{request_id}</code>" in page
        assert f'">{found["status"]} {found["error_code"] or ""}'.strip() in page
        return found


@pytest.fixture(scope="module")
def hung() -> Iterator[int]:
    """The port of an instance that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def explorer(hung: int) -> Iterator[Explorer]:
    settings = {
        "TRUSTED_PROXIES": "127.0.0.1", "TRON_PAYMENT_URL": f"http://127.0.0.1:{hung}", "EXPLORER_SAMPLE_PERCENT": "0",
        "RATE_LIMIT_REQUESTS_PER_MINUTE": "5", "RATE_LIMIT_BURST_SIZE": "0",
    }  # fmt: skip
    with running_gateway(**settings) as gateway:
        user, staff = (gateway.issue_token(f"{name}@lucid.test") for name in ("demo", "admin"))
        session = gateway.manage("shell", "--no-imports", "--command", SIGN_IN).strip()
        yield Explorer(gateway, user, staff, session)


def sent(explorer: Explorer, method: str, path: str, *fields: str, address: str, token: str = "") -> tuple[int, str]:
    """Send a request from the address; return the status and the id of the answer."""
    answer = ask(explorer.gateway.port, api(method, path, None, f"X-Forwarded-For: {address}", *fields, token=token))
    request_id = answer.header("X-Request-ID")
    assert request_id is not None
    return answer.status, request_id


@dataclass(frozen=True)
class Case:
    """A request that is refused, with the expected status and reason."""

    method: str
    path: str
    status: int
    reason: str
    signed_in: bool = False
    fields: tuple[str, ...] = ()


KEY = "X-API-Key: lk_abcdefghijkl_" + "x" * 43
REFUSED = [
    Case("GET", "/users/me", 401, "credentials_missing"),
    Case("GET", "/users/me", 401, "claims_invalid", fields=("Authorization: Bearer a.b.c",)),
    Case("GET", "/users/me", 401, "api_key_unknown", fields=(KEY,)),
    Case("GET", "/admin/users", 403, "permission_missing", signed_in=True),
    Case("GET", "/nowhere?token=secret", 404, "unknown_path"),
    Case("POST", "/users", 413, "body_too_large", fields=("Content-Length: 2000000",)),
    Case("GET", "/chain/info", 502, "instance_unreachable", signed_in=True),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.status} {case.reason}")
def test_a_refused_request_is_found_by_its_id(explorer: Explorer, case: Case) -> None:
    address, token = f"192.0.2.{REFUSED.index(case) + 1}", explorer.user if case.signed_in else ""
    status, request_id = sent(explorer, case.method, case.path, *case.fields, address=address, token=token)
    assert status == case.status

    found = explorer.find(request_id)

    assert (found["method"], found["path"]) == (case.method, "/api/v1" + case.path.partition("?")[0])
    assert (found["status"], found["reason"], found["client"]) == (case.status, case.reason, address)
    assert found["steps"][-1]["reason"] == case.reason
    assert bool(found["user_id"]) == case.signed_in
    assert [attempt["outcome"] for attempt in found["attempts"]] == ([case.reason] if case.status == 502 else [])


def test_a_request_over_the_limit_is_found_with_the_numbers(explorer: Explorer) -> None:
    def over_the_limit() -> str:
        status, request_id = sent(explorer, "GET", "/nowhere", address="192.0.2.99")
        return request_id if status == 429 else ""

    found = explorer.find(wait_until(over_the_limit))

    assert found["reason"] == "tier_exhausted"
    assert found["steps"][-1]["details"].items() >= {"tier": "public", "limit": 5, "burst": 0, "remaining": 0}.items()


def test_a_request_of_a_blocked_address_is_found_with_its_rule(explorer: Explorer) -> None:
    rule = {"network": "203.0.113.64/30", "reason": "an attack"}
    ask(explorer.gateway.port, api("POST", "/admin/blocked-addresses", rule, token=explorer.staff))

    def refused() -> str:
        status, request_id = sent(explorer, "GET", "/meta/info", address=BLOCKED)
        return request_id if status == 403 else ""

    found = explorer.find(wait_until(refused, every=0.1))

    assert (found["method"], found["path"], found["client"]) == ("GET", "/api/v1/meta/info", BLOCKED)
    assert found["reason"] == "address_denied"
    assert found["steps"][-1]["details"]["network"] == "203.0.113.64/30"


def test_a_request_that_the_parser_refuses_is_found(explorer: Explorer) -> None:
    request_id = ask(explorer.gateway.port, b"garbage\r\n\r\n").header("X-Request-ID")

    found = explorer.find(request_id)

    assert (found["status"], found["reason"]) == (400, "malformed_request")
    assert found["steps"][-1]["details"]["parser"] == "InvalidRequestLine"


def test_a_request_whose_client_left_is_found(explorer: Explorer) -> None:
    with RawClient(explorer.gateway.port) as client:
        client.send(api("GET", "/wallets", None, "X-Request-ID: the-client-left", token=explorer.user))
        wait_until(lambda: sent_to_an_instance(explorer))

    found = explorer.find("the-client-left")

    assert (found["status"], found["reason"]) == (499, "client_left")
    assert found["attempts"][0]["first_byte_ms"] is None


def sent_to_an_instance(explorer: Explorer) -> bool:
    """Return whether a request to the hung cluster is in progress."""
    clusters = explorer.get("/admin/clusters")["clusters"]
    return any(instance["in_flight"] for cluster in clusters for instance in cluster["instances"])


def test_of_a_flood_twenty_a_second_are_kept(explorer: Explorer) -> None:
    address, started = "192.0.2.200", time.monotonic()
    for _ in range(200):
        sent(explorer, "GET", "/flood", address=address)
    seconds = time.monotonic() - started

    def kept() -> int:
        total: int = explorer.get(f"/admin/requests?limit=1&address={address}")["pagination"]["total"]
        return total

    wait_until(lambda: kept() >= 20, every=0.2)
    explorer.find(sent(explorer, "GET", "/after", address="192.0.2.201")[1])

    # Each second of the clock that the flood touched may have 20, and one more from the other worker.
    assert kept() <= 21 * (seconds + 2)


def test_a_killed_worker_loses_no_request_that_was_written(explorer: Explorer) -> None:
    _, before = sent(explorer, "GET", "/before-the-kill", address="192.0.2.210")
    explorer.find(before)

    killed = workers(explorer.gateway)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in workers(explorer.gateway))

    assert explorer.find(before)["path"] == "/api/v1/before-the-kill"
    _, after = sent(explorer, "GET", "/after-the-kill", address="192.0.2.211")
    assert explorer.find(after)["path"] == "/api/v1/after-the-kill"


def test_a_gateway_that_stops_writes_what_it_still_holds() -> None:
    with running_gateway(WEB_CONCURRENCY="1") as gateway:
        answers = [ask(gateway.port, api("GET", "/last")) for _ in range(3)]
        gateway.process.terminate()
        gateway.process.wait(60)

        count = "from lucid_gateway.explorer.models import KeptRequest; print(KeptRequest.objects.filter(path__endswith='/last').count())"  # noqa: E501
        assert gateway.manage("shell", "--no-imports", "--command", count).strip() == str(len(answers))
