"""GET /login, /reset-password and /confirm-email: pages for people. Mail scanners that open them change nothing."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from redis import Redis

from accounts.tests.conftest import RESET, link_in, post, token_in
from conftest import ApiClient, error_code
from testing.mail import Mailbox

PAGES = ["/login", "/reset-password", "/confirm-email"]
ENDPOINTS = {
    "/login": "/api/v1/auth/verify",
    "/reset-password": "/api/v1/auth/password/reset/confirm",
    "/confirm-email": "/api/v1/auth/email/confirm",
}


@pytest.fixture
def browser() -> Client:
    return Client(HTTP_HOST="testserver", HTTP_ACCEPT="text/html")


def stored_in(redis: Redis) -> dict[bytes, Any]:
    """Return all keys and values in Redis, except the counters of the rate limits."""
    keys = [key for prefix in ("*:waiting", "mail_link*", "lockout*") for key in redis.keys(prefix)]
    return {key: redis.hgetall(key) if redis.type(key) == b"hash" else redis.get(key) for key in sorted(keys)}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_not_cached_framed_or_sent_as_a_referrer(browser: Client, page: str) -> None:
    response = browser.get(page)

    assert response.status_code == 200
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert response["Cache-Control"] == "no-store"
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["X-Frame-Options"] == "DENY"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert not response.cookies
    policy = dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_loads_only_own_files_and_has_no_inline_script(browser: Client, page: str) -> None:
    text = browser.get(page).content.decode()

    loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert loaded
    assert all(address.startswith("/static/") for address in loaded)
    for address in loaded:
        assert browser.head(address).status_code == 200
    assert not re.findall(r"<script(?![^>]*src=)|\son\w+=|<style|\sstyle=|javascript:", text)


@pytest.mark.parametrize("page", PAGES)
def test_the_button_posts_to_the_api_instead_of_submitting_the_form(browser: Client, page: str) -> None:
    text = browser.get(page).content.decode()

    assert re.findall(r'data-endpoint="([^"]+)"', text) == [ENDPOINTS[page]]
    assert not re.findall(r"<form[^>]*\s(action|method)=", text)


@pytest.mark.parametrize("page", PAGES)
def test_head_answers_like_get_without_a_body(browser: Client, page: str) -> None:
    got, head = browser.get(page), browser.head(page)

    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Security-Policy", "Cache-Control", "Referrer-Policy"):
        assert head[name] == got[name]


def test_opening_the_mailed_link_sends_no_secret_and_leaves_it_usable(
    api: ApiClient, browser: Client, token: str, mailbox: Mailbox, empty_redis: Redis
) -> None:
    link = urlsplit(link_in(mailbox, "owner@example.org"))
    assert token in link.fragment
    assert token not in link._replace(fragment="").geturl()
    before = stored_in(empty_redis)

    for address in (link.path, f"{link.path}?token={token}"):
        for method in (browser.get, browser.head):
            response = method(address)
            assert response.status_code == 200
            assert token.encode() not in response.content
    assert stored_in(empty_redis) == before
    assert post(api, "verify", email="owner@example.org", token=token).status_code == 200


def test_opening_a_reset_link_leaves_it_usable(
    api: ApiClient, browser: Client, owner: Any, mailbox: Mailbox, empty_redis: Redis
) -> None:
    post(api, "password/reset", email=owner.email)
    token = token_in(mailbox, owner.email, subject=RESET)
    before = stored_in(empty_redis)
    for page in PAGES:
        browser.get(f"{page}?token={token}")

    assert stored_in(empty_redis) == before != {}
    assert post(api, "password/reset/confirm", token=token, password="Another-Horse-8").status_code == 200


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_other_methods_get_the_envelope(api: ApiClient, page: str, method: str) -> None:
    response = getattr(api, method)(page)

    assert (response.status_code, error_code(response)) == (405, "4003")
    assert response["Allow"] == "GET, HEAD"


def test_there_are_no_other_pages(api: ApiClient) -> None:
    assert error_code(api.get("/logout")) == "4001"
    assert error_code(api.get("/login/x")) == "4001"
