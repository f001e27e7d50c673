"""POST /auth/login: one answer for every address, and a code for those who have an account."""

import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from redis import Redis

from accounts.lockouts import account
from accounts.login.challenges import LIFETIME_SECONDS
from accounts.models import User
from accounts.tests.conftest import code_in, failures_of, link_in, wait_for_senders
from accounts.users.locks import lock_user
from conftest import PASSWORD, ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel

NOBODY = "nobody@example.org"


def log_in(api: ApiClient, email: Any, **more: Any) -> Any:
    return api.send("post", "/auth/login", {"email": email} | more)


def without_nonce(response: Any) -> str:
    """Return the answer's body but for what is random in it."""
    return re.sub("Nonce: [0-9a-f]{32}", "Nonce", response.content.decode())


def test_a_code_of_six_digits_is_mailed(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    response = log_in(api, owner.email)

    assert response.status_code == 200
    assert response.json() == {
        "message": "If the address has an account, a code is on its way.",
        "expires_in": 300,
    }
    assert len(code_in(mailbox, owner.email)) == 6


def test_the_mail_names_the_user_and_the_lifetime_of_the_code(code: str, mailbox: Mailbox) -> None:
    mail = mailbox.wait_for("owner@example.org")

    assert mail["Subject"] == "Your Lucid login code"
    assert "Hello owner" in mail.get_content()
    assert "5 minutes" in mail.get_content()


def test_unknown_locked_and_deactivated_accounts_get_the_same_answer(
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


def test_the_mail_has_a_link_with_its_secret_in_the_fragment(code: str, mailbox: Mailbox) -> None:
    link = urlsplit(link_in(mailbox, "owner@example.org"))

    assert (link.scheme, link.netloc, link.path, link.query) == ("http", "127.0.0.1:8080", "/login", "")
    facts = parse_qs(link.fragment)
    assert facts["email"] == ["owner@example.org"]
    assert len(facts["token"][0]) >= 43


def test_the_link_leads_to_the_configured_address_whatever_the_host_header_says(
    api: ApiClient, owner: User, mailbox: Mailbox
) -> None:
    log_in_from_elsewhere = ApiClient(HTTP_HOST="localhost")
    assert log_in(log_in_from_elsewhere, owner.email).status_code == 200

    assert link_in(mailbox, owner.email).startswith("http://127.0.0.1:8080/login#")


def test_the_right_password_changes_nothing(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    response = log_in(api, owner.email, password=PASSWORD)

    assert response.content == log_in(api, NOBODY, password=PASSWORD).content
    assert code_in(mailbox, owner.email)


def test_a_wrong_password_gets_the_same_answer_but_no_mail(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    answers = {log_in(api, email, password="Wrong-Horse-7").content for email in (owner.email, NOBODY)}
    answers |= {log_in(api, NOBODY).content}
    wait_for_senders()

    assert len(answers) == 1
    assert mailbox.mails == []


@pytest.mark.parametrize(("password", "outcome"), [("Wrong-Horse-7", 401), (PASSWORD, 200)])
def test_after_a_wrong_password_the_code_that_was_not_mailed_does_not_work(
    api: ApiClient, owner: User, monkeypatch: pytest.MonkeyPatch, password: str, outcome: int
) -> None:
    monkeypatch.setattr(secrets, "randbelow", lambda _: 123456)
    log_in(api, owner.email, password=password)

    response = api.send("post", "/auth/verify", {"email": owner.email, "code": "123456"})
    assert response.status_code == outcome


def test_a_wrong_password_counts_as_a_failure_for_known_and_unknown_emails(api: ApiClient, owner: User) -> None:
    for email in (owner.email, NOBODY):
        log_in(api, email, password="Wrong-Horse-7")
        assert failures_of(account(email)) == 1

    events = AuditEvent.objects.filter(type="login.failed").order_by("created_at")
    assert [event.subject for event in events] == [str(owner.pk), ""]
    assert NOBODY not in repr([vars(event) for event in events])


def test_with_a_wallet_every_email_gets_a_challenge_of_the_same_form(
    api: ApiClient, owner: User, node_operator: User, super_admin: User
) -> None:
    lock_user(node_operator, reason="", by="")
    User.objects.filter(pk=super_admin.pk).update(hardware_wallet_enabled=True, hardware_wallet_address="T")

    emails = [owner.email, node_operator.email, super_admin.email, NOBODY]
    responses = [log_in(api, email, hardware_wallet=True) for email in emails]

    assert {frozenset(response.json()) for response in responses} == {frozenset({"message", "expires_in", "challenge"})}
    texts = [without_nonce(response).replace(email, "EMAIL") for response, email in zip(responses, emails, strict=True)]
    assert len(set(texts)) == 1
    assert len({response.json()["challenge"] for response in responses}) == 4


def test_each_login_has_a_challenge_of_its_own(api: ApiClient, db: None) -> None:
    challenges = {log_in(api, NOBODY, hardware_wallet=True).json()["challenge"] for _ in range(5)}

    assert len(challenges) == 5


def test_an_account_starts_five_logins_in_five_minutes_known_or_not(
    api: ApiClient, owner: User, node_operator: User, empty_redis: Redis
) -> None:
    lock_user(node_operator, reason="", by="")
    refused = {}
    for email in (owner.email, node_operator.email, NOBODY):
        assert {log_in(api, email).status_code for _ in range(5)} == {200}
        refused[email] = log_in(api, email.upper())

    for response in refused.values():
        assert (response.status_code, error_code(response)) == (429, "3003")
        assert 290 <= int(response["Retry-After"]) <= 300
        assert response.json()["error"]["details"] == {"retry_after": int(response["Retry-After"])}
    assert len({response.json()["error"]["message"] for response in refused.values()}) == 1


def test_after_the_five_minutes_the_account_may_start_again(api: ApiClient, owner: User, empty_redis: Redis) -> None:
    for _ in range(6):
        response = log_in(api, owner.email)
    assert response.status_code == 429
    (key,) = empty_redis.keys("*:starts")
    assert 0 < empty_redis.ttl(key) <= 300

    empty_redis.delete(key)
    assert log_in(api, owner.email).status_code == 200


def test_a_refused_login_sends_no_mail_and_replaces_no_code(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    for _ in range(7):
        log_in(api, owner.email)
    codes = [code_in(mailbox, owner.email, number) for number in range(1, 6)]
    wait_for_senders()

    assert len(mailbox.mails) == 5
    # The mails may have overtaken one another: one of the five codes is the newest login's.
    statuses = [api.send("post", "/auth/verify", {"email": owner.email, "code": code}).status_code for code in codes]
    assert statuses.count(200) == 1


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_logins_five_are_started(owner: User, mailbox: Mailbox) -> None:
    statuses = in_parallel(12, lambda _: log_in(ApiClient(HTTP_HOST="testserver"), owner.email).status_code)
    wait_for_senders()

    assert sorted(statuses) == [200] * 5 + [429] * 7
    assert len(mailbox.mails) == 5


def test_the_email_is_case_insensitive(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    assert log_in(api, "OWNER@Example.ORG").status_code == 200

    assert code_in(mailbox, owner.email)


def test_neither_the_code_nor_the_email_is_in_redis(code: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")
    stored = repr((key, empty_redis.hgetall(key)))

    assert code not in stored
    assert "owner" not in stored


def test_a_challenge_expires_for_every_email(api: ApiClient, db: None, empty_redis: Redis) -> None:
    log_in(api, "nobody@example.org")

    (key,) = empty_redis.keys("*:waiting")
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
        ({"email": True}, "1003"),
    ],
)
def test_an_invalid_email_is_refused(api: ApiClient, data: Any, code: str) -> None:
    response = api.send("post", "/auth/login", data)

    assert response.status_code == 422
    assert error_code(response) == code
    assert response.json()["error"]["details"]["validation_errors"][0]["field"] == "email"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("password", None, "1002"),
        ("password", "", "1002"),
        ("password", "p" * 1025, "1004"),
        ("password", ["p"], "1003"),
        ("password", "p\x00", "1003"),
        ("hardware_wallet", None, "1002"),
        ("hardware_wallet", "perhaps", "1003"),
        ("hardware_wallet", 2, "1003"),
        ("hardware_wallet", [], "1003"),
    ],
)
def test_an_invalid_field_is_refused(api: ApiClient, field: str, value: Any, code: str) -> None:
    response = log_in(api, "owner@example.org", **{field: value})

    assert response.status_code == 422
    assert error_code(response) == code
    assert response.json()["error"]["details"]["validation_errors"][0]["field"] == field


def test_half_a_surrogate_pair_is_refused(api: ApiClient) -> None:
    assert log_in(api, "\ud800@example.org").status_code in (400, 422)


def test_a_body_that_is_not_a_json_object_is_refused(api: ApiClient) -> None:
    response = api.post("/api/v1/auth/login", b"[]", content_type="application/json")

    assert response.status_code == 400
    assert error_code(response) == "1009"


def test_reading_the_endpoint_is_not_allowed(api: ApiClient) -> None:
    response = api.send("get", "/auth/login")

    assert error_code(response) == "4003"
    assert response["Allow"] == "POST, OPTIONS"
