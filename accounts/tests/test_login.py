"""POST /auth/login: one answer for every address, and a code for those who have an account."""

from typing import Any

import pytest
from redis import Redis

from accounts.challenges import LIFETIME_SECONDS
from accounts.locks import lock_user
from accounts.models import User
from accounts.tests.conftest import code_in
from conftest import ApiClient, error_code
from testing.mail import Mailbox


def log_in(api: ApiClient, email: Any) -> Any:
    return api.send("post", "/auth/login", {"email": email})


def test_a_code_of_six_digits_is_mailed(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    response = log_in(api, owner.email)

    assert response.status_code == 200
    assert response.json() == {
        "message": "If the address has an account, a code is on its way.",
        "expires_in": 300,
    }
    assert len(code_in(mailbox, owner.email)) == 6


def test_the_mail_says_whom_it_is_for_and_how_long_the_code_works(code: str, mailbox: Mailbox) -> None:
    mail = mailbox.wait_for("owner@example.org")

    assert mail["Subject"] == "Your Lucid login code"
    assert "Hello owner" in mail.get_content()
    assert "5 minutes" in mail.get_content()


def test_unknown_locked_and_deactivated_accounts_get_the_same_bytes(
    api: ApiClient, owner: User, node_operator: User, super_admin: User, mailbox: Mailbox
) -> None:
    lock_user(node_operator, reason="", by="")
    User.objects.filter(pk=super_admin.pk).update(is_active=False)

    responses = [log_in(api, user.email) for user in (owner, node_operator, super_admin)]
    responses.append(log_in(api, "nobody@example.org"))

    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert len({tuple(sorted(response.headers)) for response in responses}) == 1


def test_only_those_who_may_log_in_get_a_mail(
    api: ApiClient, owner: User, node_operator: User, super_admin: User, mailbox: Mailbox
) -> None:
    lock_user(node_operator, reason="", by="")
    User.objects.filter(pk=super_admin.pk).update(is_active=False)

    for email in (node_operator.email, super_admin.email, "nobody@example.org", owner.email):
        log_in(api, email)

    mailbox.wait_for(owner.email)
    assert [mail["To"] for mail in mailbox.mails] == [owner.email]


def test_the_address_is_read_without_case(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    assert log_in(api, "OWNER@Example.ORG").status_code == 200

    assert code_in(mailbox, owner.email)


def test_the_code_is_not_in_redis_and_neither_is_the_address(code: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("login_challenge:*")
    stored = repr((key, empty_redis.hgetall(key)))

    assert code not in stored
    assert "owner" not in stored


def test_a_challenge_ends_by_itself_for_every_address(api: ApiClient, db: None, empty_redis: Redis) -> None:
    log_in(api, "nobody@example.org")

    (key,) = empty_redis.keys("login_challenge:*")
    assert 0 < empty_redis.ttl(key) <= LIFETIME_SECONDS


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({}, "1002"),
        ({"email": None}, "1002"),
        ({"email": ""}, "1002"),
        ({"email": "owner"}, "1006"),
        ({"email": "owner@example.org\n.com"}, "1006"),
        ({"email": "a" * 250 + "@example.org"}, "1004"),
        ({"email": ["owner@example.org"]}, "1003"),
        ({"email": "owner\x00@example.org"}, "1001"),
    ],
)
def test_what_is_no_address_is_refused(api: ApiClient, data: Any, code: str) -> None:
    response = api.send("post", "/auth/login", data)

    assert response.status_code == 422
    assert error_code(response) == code
    assert response.json()["error"]["details"]["validation_errors"][0]["field"] == "email"


def test_half_a_surrogate_pair_is_refused(api: ApiClient) -> None:
    assert log_in(api, "\ud800@example.org").status_code in (400, 422)


def test_a_body_that_is_no_json_object_is_refused(api: ApiClient) -> None:
    response = api.post("/api/v1/auth/login", b"[]", content_type="application/json")

    assert response.status_code == 400
    assert error_code(response) == "1009"


def test_reading_the_endpoint_is_not_allowed(api: ApiClient) -> None:
    response = api.send("get", "/auth/login")

    assert error_code(response) == "4003"
    assert response["Allow"] == "POST, OPTIONS"
