"""Sessions of the operator pages end after an hour without a page, and 8 hours after the login."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import browser, signed_in
from conftest import PASSWORD
from lucid_gateway.server.admin_middleware import IDLE_SECONDS, SEEN_AT, SEEN_EVERY_SECONDS

USERS = "/admin/accounts/user/"
BY_A_SCRIPT = {"Sec-Fetch-Mode": "cors"}


@pytest.fixture
def page(admin: User) -> Client:
    return signed_in(admin)


def set_seen(client: Client, seconds_ago: int) -> None:
    """Make the browser's last page one that was opened that long ago."""
    session = client.session
    session[SEEN_AT] = int(time.time()) - seconds_ago
    session.save()


def idle_for(client: Client) -> float:
    seconds: float = time.time() - client.session[SEEN_AT]
    return seconds


def test_a_session_ends_after_an_hour_without_a_page(page: Client) -> None:
    set_seen(page, IDLE_SECONDS - 60)
    assert page.get(USERS).status_code == 200
    set_seen(page, IDLE_SECONDS + 1)

    assert page.get(USERS)["Location"] == f"/admin/login/?next={USERS}"
    assert Session.objects.count() == 0


def test_an_idle_session_takes_no_form(page: Client, owner: User) -> None:
    set_seen(page, IDLE_SECONDS + 1)
    form = {"action": "lock", "_selected_action": [str(owner.pk)], "_confirmed": "yes", "reason": "why"}

    assert page.post(USERS, form).status_code == 302
    assert User.objects.locked().count() == 0


def test_a_page_is_activity_and_a_script_is_not(page: Client) -> None:
    set_seen(page, 1_000)
    page.get(USERS, headers=BY_A_SCRIPT)
    assert idle_for(page) >= 1_000

    page.get(USERS)
    assert idle_for(page) < 100


def test_a_script_does_not_revive_an_idle_session(page: Client) -> None:
    set_seen(page, IDLE_SECONDS + 1)

    assert page.get(USERS, headers=BY_A_SCRIPT).status_code == 302


def test_the_session_is_not_written_for_each_page(page: Client) -> None:
    set_seen(page, SEEN_EVERY_SECONDS - 30)
    page.get(USERS)

    assert idle_for(page) >= SEEN_EVERY_SECONDS - 30


def test_a_session_ends_eight_hours_after_the_login(admin: User) -> None:
    client = browser()
    response: Any = client.post("/admin/login/", {"username": admin.email, "password": PASSWORD})
    assert int(response.cookies["sessionid"]["max-age"]) == pytest.approx(8 * 3600, abs=100)
    signed_in_until = Session.objects.get().expire_date
    assert timedelta(hours=7.9) < signed_in_until - timezone.now() < timedelta(hours=8.1)
    set_seen(client, 1_000)

    client.get(USERS)
    assert idle_for(client) < 100
    assert abs(Session.objects.get().expire_date - signed_in_until) < timedelta(seconds=2)


def test_a_visitor_without_a_session_gets_none(db: None) -> None:
    client = browser()
    client.get("/admin/login/")

    assert Session.objects.count() == 0
