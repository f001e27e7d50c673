"""ADMIN_NETWORKS: clients outside of these networks get the answer for an unknown path in place of every page."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from accounts.tests.operators import browser, signed_in
from conftest import PASSWORD, error_code
from testing.gateway import Gateway, running_gateway
from testing.http.client import ask, request_bytes
from testing.waiting import wait_until

INSIDE, OUTSIDE = "192.0.2.77", "198.51.100.7"
PATHS = ["/admin", "/admin/", "/admin/login/", "/admin/nothing", "/admin/accounts/user/", "/admin/nothing.json"]


@pytest.fixture
def limited(settings: Settings) -> None:
    """The operator pages open only from two networks."""
    networks = {"ADMIN_NETWORKS": ("192.0.2.0/24", "2001:db8::/32")}
    settings.ENV = settings.ENV.model_copy(update=networks)


def status(client: Client, address: str, path: str = "/admin/login/") -> int:
    code: int = client.get(path, REMOTE_ADDR=address).status_code
    return code


@pytest.mark.parametrize("address", [INSIDE, "2001:db8::1", "::ffff:192.0.2.77"])
def test_clients_inside_see_the_login(limited: None, db: None, address: str) -> None:
    assert status(browser(), address) == 200


@pytest.mark.parametrize("address", [OUTSIDE, "2001:db9::1", "::ffff:198.51.100.7", ""])
def test_clients_outside_do_not(limited: None, db: None, address: str) -> None:
    assert status(browser(), address) == 404


@pytest.mark.parametrize("path", PATHS)
def test_outside_every_page_looks_like_an_unknown_path(limited: None, admin: User, path: str) -> None:
    for client in (browser(), signed_in(admin)):
        response: Any = client.get(path, REMOTE_ADDR=OUTSIDE)
        assert (response.status_code, error_code(response)) == (404, "4001")


def test_outside_the_right_password_is_of_no_use(limited: None, admin: User) -> None:
    client = browser(REMOTE_ADDR=OUTSIDE)
    form = {"username": admin.email, "password": PASSWORD}

    assert client.post("/admin/login/", form).status_code == 404
    assert "sessionid" not in client.cookies
    assert client.post("/admin/login/", form, REMOTE_ADDR=INSIDE).status_code == 302


def test_the_api_and_files_are_open_to_all(limited: None, db: None) -> None:
    assert status(browser(), OUTSIDE, "/api/v1/meta/info") == 200
    assert status(browser(), OUTSIDE, "/static/accounts/icon.svg") == 200


def test_without_the_setting_every_network_may_sign_in(db: None) -> None:
    assert status(browser(), OUTSIDE) == 200


@pytest.fixture(scope="module")
def gateway_behind_a_proxy() -> Iterator[Gateway]:
    """A gateway that trusts this machine as its proxy, and opens the operator pages to one network."""
    with running_gateway(TRUSTED_PROXIES="127.0.0.1", ADMIN_NETWORKS="192.0.2.0/24") as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [(INSIDE, 200), (OUTSIDE, 404), (f"{INSIDE}, {OUTSIDE}", 404), (f"{OUTSIDE}, {INSIDE}", 200), ("", 404)],
)
def test_behind_a_proxy_the_clients_own_address_counts(
    gateway_behind_a_proxy: Gateway, forwarded_for: str, expected: int
) -> None:
    url = f"http://127.0.0.1:{gateway_behind_a_proxy.port}/admin/login/"
    headers = {"X-Forwarded-For": forwarded_for} if forwarded_for else {}

    with requests.get(url, headers=headers, timeout=30) as response:
        assert response.status_code == expected


# Below an unknown path, each of these gets another answer.
REQUESTS = [
    ("GET", "/login/", ""), ("HEAD", "/", ""), ("OPTIONS", "/", ""), ("GET", "/overview.json", ""), ("GET", "", ""),
    ("POST", "/login/", "username=a&password=b"), ("PUT", "/", "x" * (3 * 2**20)), ("GET", "/a%2Fb", ""),
    ("GET", "//", ""), ("GET", "/%2e%2e/", ""),
]  # fmt: skip
VARYING = {
    "date",
    "x-request-id",
    "ratelimit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-burst-remaining",
}


def answer_outside(gateway: Gateway, method: str, target: str, body: str) -> tuple[str, dict[str, str], bytes]:
    """Return the start line, fields and body that a client outside gets, without what differs from time to time."""
    sent = request_bytes(method, target, f"X-Forwarded-For: {OUTSIDE}", body=body.encode())
    answer = ask(gateway.port, sent)
    fields = {name.lower(): value for name, value in answer.fields}
    body_found = re.sub(rb'"(request_id|timestamp)": ?"[^"]*"', b"", answer.body)
    return answer.start, {name: value for name, value in fields.items() if name not in VARYING}, body_found


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_outside_the_answer_is_in_every_detail_that_for_an_unknown_path(
    gateway_behind_a_proxy: Gateway, method: str, path: str, body: str
) -> None:
    hidden, unknown = (
        answer_outside(gateway_behind_a_proxy, method, f"/{at}{path}", body) for at in ("admin", "other")
    )

    assert hidden == unknown
    assert int(hidden[0].split(" ")[1]) >= 400


def test_the_log_keeps_the_path_that_was_sent(gateway_behind_a_proxy: Gateway) -> None:
    answer = ask(gateway_behind_a_proxy.port, request_bytes("GET", "/admin/login/", f"X-Forwarded-For: {OUTSIDE}"))

    request_id = answer.header("X-Request-ID")
    found = wait_until(
        lambda: [line for line in gateway_behind_a_proxy.access_lines() if line["request_id"] == request_id]
    )
    assert [line["path"] for line in found] == ["/admin/login/"]
