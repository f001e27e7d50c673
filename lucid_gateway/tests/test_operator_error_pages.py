"""Errors below /admin are pages in the frame of the console; without the database they have a bare frame."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.contrib import admin
from django.test import Client
from pytest_django import Settings

from accounts.models import User
from accounts.tests.operators import browser, signed_in
from conftest import error_code
from lucid_gateway.policy.errors import RateLimited
from ratelimit.engine.limits import default_limit
from testing.gateway import Gateway, running_gateway

ANONYMOUS = "an anonymous visitor"
MENU = "/admin/accounts/user/"  # a link that only the frame of signed-in staff has
MISSING = "/admin/nothing/"


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin, which gets the answer of a failed view like any other."""
    client = signed_in(admin)
    client.raise_request_exception = False
    return client


def shown(response: Any, status: int, title: str) -> str:
    """Return the text of an error page, after checking what every error page has."""
    text: str = response.content.decode()
    assert (response.status_code, response["Content-Type"]) == (status, "text/html; charset=utf-8"), text
    assert f"<title>{title} · Lucid API Gateway</title>" in text
    assert f"<code>{response['X-Request-ID']}</code>" in text
    assert "LUCID_ERR_" in text
    assert response["Cache-Control"] == "no-store"
    return text


def test_an_unknown_page_is_a_page_in_the_frame(page: Client) -> None:
    assert MENU in shown(page.get(MISSING), 404, "Not found")


def test_a_page_without_the_permission_is_a_page_in_the_frame(page: Client) -> None:
    assert MENU in shown(page.get("/admin/accounts/user/add/"), 403, "Not allowed")


def test_a_method_that_a_page_does_not_have_is_a_page_with_the_allowed_methods(page: Client) -> None:
    response = page.get("/admin/logout/")

    shown(response, 405, "Not possible here")
    assert "POST" in response["Allow"]


def test_a_form_without_a_csrf_token_is_a_page(admin: User) -> None:
    client = signed_in(admin, enforce_csrf_checks=True)

    assert "reload the page" in shown(client.post("/admin/password_change/"), 403, "Form expired")


def test_a_wrong_host_is_a_page_without_a_menu(page: Client) -> None:
    assert MENU not in shown(page.get("/admin/", headers={"Host": "evil.example.org"}), 400, "Bad request")


def test_too_many_form_fields_are_a_page(page: Client) -> None:
    shown(page.post("/admin/accounts/user/", {f"f{number}": "x" for number in range(1_001)}), 400, "Bad request")


@pytest.mark.django_db
def test_a_body_that_is_too_large_is_a_page() -> None:
    response = browser().post("/admin/login/", "x" * (11 * 1024 * 1024), content_type="text/plain")

    assert MENU not in shown(response, 413, "Too large")


@pytest.fixture
def one_a_minute(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """An address, and a member of staff, may send one request a minute."""
    names = ("RATE_LIMIT_REQUESTS_PER_MINUTE", "RATE_LIMIT_ADMIN_REQUESTS_PER_MINUTE")
    bursts = ("RATE_LIMIT_BURST_SIZE", "RATE_LIMIT_ADMIN_BURST_SIZE")
    settings.ENV = settings.ENV.model_copy(update=dict.fromkeys(names, 1) | dict.fromkeys(bursts, 0))
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


@pytest.mark.parametrize("who", ["admin", ANONYMOUS])
def test_a_request_over_the_limit_is_a_page_without_a_menu(one_a_minute: None, admin: User, who: str) -> None:
    client = browser() if who == ANONYMOUS else signed_in(admin)
    client.get("/admin/login/")
    response = client.get("/admin/login/")

    text = shown(response, 429, "Too many requests")
    assert MENU not in text
    assert f"Try again in {response['Retry-After']} seconds." in text


def test_a_fault_is_a_page_in_the_frame_that_reveals_nothing(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin.site._registry[User], "change_list_template", "no-such-template.html")

    text = shown(page.get("/admin/accounts/user/"), 500, "Internal error")
    assert MENU in text
    assert "no-such-template" not in text


def test_an_error_of_the_gateway_keeps_its_status_and_headers(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RateLimited(retry_after=7)

    monkeypatch.setattr(admin.site, "get_app_list", refuse)
    response = page.get("/admin/")

    shown(response, 429, "Too many requests")
    assert response["Retry-After"] == "7"


def test_a_fault_of_the_frame_itself_leaves_a_page_without_a_menu(
    page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no list of apps")

    monkeypatch.setattr(admin.site, "get_app_list", fail)

    assert MENU not in shown(page.get("/admin/"), 500, "Internal error")


def test_scripts_of_the_console_get_the_envelope(page: Client) -> None:
    response = page.get("/admin/nothing.json")

    assert (response.status_code, error_code(response)) == (404, "4001")


def test_text_from_the_request_is_escaped(page: Client) -> None:
    assert "<script>alert" not in page.get("/admin/<script>alert(1)</script>/").content.decode()


@pytest.fixture(scope="module")
def gateway_without_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, requests.Session]]:
    """A gateway whose database is gone, and the browser of an operator who had signed in before."""
    path: Path = tmp_path_factory.mktemp("database") / "gateway.sqlite3"
    with running_gateway(SQLITE_PATH=str(path)) as gateway:
        site = f"http://127.0.0.1:{gateway.port}/admin"
        password = re.search('"admin_password": "(.+)"', gateway.manage("seed_demo", "--json"))
        assert password is not None
        with requests.Session() as session:
            session.get(f"{site}/login/", timeout=30)
            form = {"username": "admin@lucid.test", "password": password[1]}
            token = {"csrfmiddlewaretoken": session.cookies["csrftoken"]}
            assert "/admin/login/" not in session.post(f"{site}/login/?next=/admin/", form | token, timeout=30).url
            path.rename(path.with_name("away.sqlite3"))
            yield gateway, session


@pytest.mark.parametrize("path", ["/admin/", "/admin/accounts/user/", MISSING])
def test_without_the_database_every_page_says_so(
    gateway_without_database: tuple[Gateway, requests.Session], path: str
) -> None:
    gateway, session = gateway_without_database
    response = session.get(f"http://127.0.0.1:{gateway.port}{path}", timeout=30)

    assert (response.status_code, response.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "The database does not answer." in response.text
    assert response.headers["X-Request-ID"] in response.text
    assert int(response.headers["Retry-After"]) > 0
