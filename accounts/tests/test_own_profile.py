"""GET, PUT, PATCH and DELETE /users/me."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from pytest_django import Settings
from redis import Redis

from accounts.api_keys import create_api_key
from accounts.factors.recovery import ensure_recovery_codes
from accounts.models import User
from accounts.tests.conftest import NOTICE, code_in, mail_about, token_in
from accounts.tests.test_users import FIELDS
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import lock_user
from conftest import PASSWORD, ApiClient, error_code, make_user
from lucid_gateway.audit.events import record
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from testing.mail import Mailbox

NEW = "new@example.org"


def test_callers_can_read_their_own_account(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = api.send("get", "/users/me", token=tokens.access)

    assert response.status_code == 200
    body = response.json()
    assert set(body) == FIELDS
    assert (body["user_id"], body["email"], body["role"]) == (str(owner.pk), "owner@example.org", "user")
    assert body["created_at"].endswith("Z")


def test_it_needs_an_access_token(api: ApiClient, db: None) -> None:
    response = api.send("get", "/users/me")

    assert response.status_code == 401
    assert error_code(response) == "2001"
    assert response["WWW-Authenticate"] == "Bearer"


def test_a_deactivated_account_gets_401(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    owner.delete()

    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2001"


def test_a_trailing_slash_is_accepted(api: ApiClient, tokens: TokenPair) -> None:
    assert api.send("get", "/users/me/", token=tokens.access).status_code == 200


def test_the_answer_has_rate_limit_headers(api: ApiClient, tokens: TokenPair) -> None:
    response = api.send("get", "/users/me", token=tokens.access)

    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("1000", "999")


# Names


def named(owner: User) -> User:
    """Give the owner names."""
    owner.first_name, owner.last_name = "Ada", "Lovelace"
    owner.save()
    return owner


def test_a_patch_changes_only_the_fields_it_contains(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    named(owner)

    body = api.send("patch", "/users/me", {"first_name": "Augusta", "username": "augusta"}, token=tokens.access).json()

    assert (body["first_name"], body["last_name"], body["username"]) == ("Augusta", "Lovelace", "augusta")
    assert User.objects.filter(username="augusta", first_name="Augusta", last_name="Lovelace").exists()
    event = AuditEvent.objects.get(type="user.updated")
    assert (event.actor, event.subject, event.details) == (
        str(owner.pk), str(owner.pk),
        {
            "fields": ["first_name", "username"],
            "changes": {"first_name": ["Ada", "Augusta"], "username": ["owner", "augusta"]},
        },
    )  # fmt: skip


def test_a_put_clears_the_names_that_it_omits(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    named(owner)
    data = {"email": owner.email, "username": owner.username, "last_name": "King"}

    body = api.send("put", "/users/me", data, token=tokens.access).json()

    assert (body["first_name"], body["last_name"], body["username"]) == ("", "King", "owner")


def test_a_put_needs_email_and_username(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    for data in ({"username": owner.username}, {"email": owner.email}):
        response = api.send("put", "/users/me", data, token=tokens.access)
        assert (response.status_code, error_code(response)) == (422, "1002")


def test_an_empty_patch_changes_nothing(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    before = api.send("get", "/users/me", token=tokens.access).json()

    assert api.send("patch", "/users/me", {}, token=tokens.access).json() == before
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("method", ["put", "patch"])
def test_fields_that_callers_cannot_change_are_ignored(
    api: ApiClient, owner: User, tokens: TokenPair, method: str
) -> None:
    before = User.objects.values().get(pk=owner.pk)
    foreign = {
        "role": "super_admin", "user_id": str(uuid.uuid4()), "is_active": False, "email_verified": True,
        "password": "Other-Horse-7", "totp_enabled": True, "token_epoch": 7, "locked_until": "2999-01-01T00:00:00Z",
        "is_staff": True,
    }  # fmt: skip

    data = {"email": owner.email, "username": owner.username, **foreign}
    response = api.send(method, "/users/me", data, token=tokens.access)

    assert response.status_code == 200
    assert User.objects.values().get(pk=owner.pk) == before


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize("field", ["username", "email"])
def test_a_taken_email_or_username_is_refused(
    api: ApiClient, owner: User, node_operator: User, method: str, field: str
) -> None:
    data = {"email": owner.email, "username": owner.username, "first_name": "Ada"}
    data[field] = node_operator.email.upper() if field == "email" else node_operator.username

    response = api.send(method, "/users/me", data, token=issue_tokens(owner).access)

    assert response.status_code == 409
    assert error_code(response) == "4002"
    assert response.json()["error"]["details"] == {"field": field}
    assert User.objects.get(pk=owner.pk).first_name == ""


def test_each_field_has_its_rule(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    rules: list[tuple[dict[str, Any], str]] = [
        ({"username": "Ada"}, "1003"),
        ({"username": ""}, "1002"),
        ({"first_name": "a" * 101}, "1004"),
        ({"last_name": None}, "1002"),
        ({"email": "ada"}, "1006"),
        ({"email": None}, "1002"),
        ({"username": "a", "email": "ada", "first_name": "a" * 101}, "1001"),
    ]
    answers = [api.send("patch", "/users/me", changes, token=tokens.access) for changes, _ in rules]

    assert [error_code(answer) for answer in answers] == [code for _, code in rules]
    assert {answer.status_code for answer in answers} == {422}


# Another email


CONFIRM = "Confirm your new email address"


def change_email(api: ApiClient, tokens: TokenPair, email: str = NEW, **changes: Any) -> Any:
    data = {"email": email, "current_password": PASSWORD} | changes
    return api.send("patch", "/users/me", {name: value for name, value in data.items() if value}, token=tokens.access)


def confirm(api: ApiClient, token: str) -> Any:
    return api.send("post", "/auth/email/confirm", {"token": token})


def test_a_new_email_takes_effect_once_its_link_is_confirmed(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    asked = change_email(api, tokens)
    assert (asked.status_code, asked.json()["email"]) == (200, owner.email)

    confirmed = confirm(api, token_in(mailbox, NEW, subject=CONFIRM))

    assert (confirmed.status_code, confirmed.json()["email"], confirmed.json()["email_verified"]) == (200, NEW, True)
    assert api.send("get", "/users/me", token=tokens.access).json()["email"] == NEW
    assert AuditEvent.objects.filter(type="user.email_changed", subject=str(owner.pk)).count() == 1


def test_the_old_address_gets_two_notices_and_no_link(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    change_email(api, tokens)
    assert f"asked to change your email address to {NEW}" in mail_about(mailbox, NOTICE, owner.email)

    confirm(api, token_in(mailbox, NEW, subject=CONFIRM))

    assert f"is now {NEW}" in mail_about(mailbox, NOTICE, owner.email, 2)
    assert [mail["To"] for mail in mailbox.mails if mail["Subject"] == CONFIRM] == [NEW]


@pytest.mark.parametrize(("password", "refusal"), [("", (422, "1002")), ("Other-Horse-7", (401, "2001"))])
def test_a_new_email_requires_the_password(
    api: ApiClient, owner: User, empty_redis: Redis, password: str, refusal: tuple[int, str]
) -> None:
    response = change_email(api, issue_tokens(owner), current_password=password, first_name="Ada")

    assert (response.status_code, error_code(response)) == refusal
    assert User.objects.get(pk=owner.pk).first_name == ""
    assert empty_redis.keys("mail_link*") == []


def test_too_many_mails_change_nothing(api: ApiClient, owner: User, tokens: TokenPair, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"LOGINS_PER_ACCOUNT": 1})
    asked = [change_email(api, tokens, f"new{count}@example.org", first_name=f"{count}") for count in range(2)]

    assert [answer.status_code for answer in asked] == [200, 429]
    assert error_code(asked[1]) == "3003"
    assert 1 <= int(asked[1]["Retry-After"]) <= 300
    assert User.objects.get(pk=owner.pk).first_name == "0"


def test_the_old_email_logs_in_until_the_confirmation_and_the_new_one_afterwards(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    change_email(api, tokens)
    token = token_in(mailbox, NEW, subject=CONFIRM)
    api.send("post", "/auth/login", {"email": NEW})
    api.send("post", "/auth/login", {"email": owner.email})
    verify = {"email": owner.email, "code": code_in(mailbox, owner.email)}
    assert api.send("post", "/auth/verify", verify).status_code == 200

    confirm(api, token)
    api.send("post", "/auth/login", {"email": owner.email})
    api.send("post", "/auth/login", {"email": NEW})
    verify = {"email": NEW, "code": code_in(mailbox, NEW)}
    assert api.send("post", "/auth/verify", verify).json()["user"]["user_id"] == str(owner.pk)


def test_the_current_email_needs_no_link(api: ApiClient, tokens: TokenPair, empty_redis: Redis) -> None:
    for email in ("owner@example.org", " Owner@Example.ORG "):
        assert change_email(api, tokens, email, current_password="").status_code == 200
    assert empty_redis.keys("mail_link*") == []


def test_an_email_that_was_taken_meanwhile_is_refused(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    change_email(api, tokens)
    make_user("new", Role.USER)

    response = confirm(api, token_in(mailbox, NEW, subject=CONFIRM))

    assert response.status_code == 409
    assert error_code(response) == "4002"
    assert User.objects.get(pk=owner.pk).email == owner.email


def test_a_link_works_once(api: ApiClient, tokens: TokenPair, mailbox: Mailbox) -> None:
    change_email(api, tokens)
    token = token_in(mailbox, NEW, subject=CONFIRM)
    assert confirm(api, token).status_code == 200

    response = confirm(api, token)

    assert response.status_code == 401
    assert error_code(response) == "2006"


def test_a_link_is_void_once_the_password_was_changed(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    change_email(api, tokens)
    passwords = {"current_password": PASSWORD, "password": "Other-Horse-7"}
    assert api.send("post", "/auth/password/change", passwords, token=tokens.access).status_code == 200

    assert error_code(confirm(api, token_in(mailbox, NEW, subject=CONFIRM))) == "2006"
    assert User.objects.get(pk=owner.pk).email == owner.email


def test_an_invalid_link_confirms_nothing(api: ApiClient, db: None) -> None:
    assert [error_code(confirm(api, token)) for token in ("x" * 43, "", "x" * 101)] == ["2006", "1002", "1004"]


# Deletion of the account

ADDRESS, USER_AGENT, WALLET = "203.0.113.77", "Netscape/4.71", "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8"
PERSONAL = ("zelda@example.org", "zelda-47", "Zelda", "Quux", ADDRESS, USER_AGENT, WALLET)


@pytest.fixture
def zelda(db: None) -> User:
    """A user with personal data in every table that can contain some."""
    user = User.objects.create_user(
        PERSONAL[0], PERSONAL[1], first_name="Zelda", last_name="Quux", totp_enabled=True, totp_secret="encrypted",
        hardware_wallet_enabled=True, hardware_wallet_address=WALLET,
    )  # fmt: skip
    create_api_key(user, name="Zelda's laptop", permissions=["user:read"])
    ensure_recovery_codes(user)
    record("wallet.enabled", subject=user, address=WALLET)
    lock_user(make_user("mallory", Role.USER), reason="", by=user)
    page = ContentType.objects.get_for_model(User)
    LogEntry.objects.create(
        user=user, content_type=page, object_id=str(user.pk), object_repr=str(user), action_flag=CHANGE
    )
    return user


def refreshed(api: ApiClient, user: User) -> dict[str, str]:
    """Return new tokens of a refresh from the user's address, with the user's browser."""
    data = {"refresh_token": issue_tokens(user).refresh}
    return dict(api.send("post", "/auth/refresh", data, REMOTE_ADDR=ADDRESS, HTTP_USER_AGENT=USER_AGENT).json())


def delete(api: ApiClient, token: str) -> Any:
    return api.send("delete", "/users/me", token=token, REMOTE_ADDR=ADDRESS, HTTP_USER_AGENT=USER_AGENT)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
def test_staff_cannot_delete_their_own_account(api: ApiClient, db: None, role: Role) -> None:
    operator = make_user("operator", role)
    token = issue_tokens(operator).access

    response = delete(api, token)

    assert (response.status_code, error_code(response)) == (409, "4003")
    assert api.send("get", "/users/me", token=token).status_code == 200
    assert not AuditEvent.objects.filter(type="user.deleted").exists()


def stored_rows() -> Iterator[str]:
    """Yield each row of each table as text."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy:
            yield from (f"{model.__name__} {row}" for row in model._default_manager.values())


def test_no_table_contains_personal_data_of_a_deleted_user(api: ApiClient, zelda: User) -> None:
    tokens = refreshed(api, zelda)
    before = list(stored_rows())
    assert [trace for trace in PERSONAL if not any(trace in row for row in before)] == []

    assert delete(api, tokens["access_token"]).status_code == 204

    assert [row for row in stored_rows() if any(trace.lower() in row.lower() for trace in PERSONAL)] == []


def test_all_credentials_of_a_deleted_user_are_invalid(api: ApiClient, zelda: User) -> None:
    tokens, key = refreshed(api, zelda), create_api_key(zelda, name="key", permissions=["user:read"])[1]
    assert api.send("get", "/users/me", headers={"X-API-Key": key}).status_code == 200
    delete(api, tokens["access_token"])

    assert error_code(api.send("get", "/users/me", token=tokens["access_token"])) == "2003"
    assert error_code(api.send("get", "/users/me", headers={"X-API-Key": key})) == "2003"
    assert error_code(api.send("post", "/auth/refresh", {"refresh_token": tokens["refresh_token"]})) == "2010"
    assert not zelda.recovery_codes.exists()


def test_the_audit_log_still_names_the_id_of_a_deleted_user(api: ApiClient, zelda: User) -> None:
    before = set(AuditEvent.objects.filter(subject=str(zelda.pk)).values_list("event_id", "type", "outcome"))
    delete(api, issue_tokens(zelda).access)

    after = AuditEvent.objects.filter(subject=str(zelda.pk))
    assert before <= set(after.values_list("event_id", "type", "outcome"))
    assert {"api_key.created", "wallet.enabled", "user.deleted"} <= set(after.values_list("type", flat=True))
    assert after.get(type="user.deleted").actor == str(zelda.pk)


def test_email_and_username_of_a_deleted_user_can_be_used_again(api: ApiClient, zelda: User) -> None:
    delete(api, issue_tokens(zelda).access)

    data = {"email": zelda.email, "username": zelda.username, "password": PASSWORD}
    response = api.send("post", "/users", data)

    assert response.status_code == 201
    assert response.json()["user_id"] != str(zelda.pk)


def test_a_deleted_user_is_notified_at_the_former_address(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    delete(api, tokens.access)

    assert "deleted" in mail_about(mailbox, NOTICE, owner.email)


def test_pending_codes_and_links_end_with_the_account(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    change_email(api, tokens)
    api.send("post", "/auth/login", {"email": owner.email})
    code, link = code_in(mailbox, owner.email), token_in(mailbox, NEW, subject=CONFIRM)
    delete(api, tokens.access)

    assert error_code(api.send("post", "/auth/verify", {"email": owner.email, "code": code})) == "2006"
    assert error_code(confirm(api, link)) == "2006"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_an_api_key_cannot_change_or_delete_its_owner(api: ApiClient, super_admin: User, method: str) -> None:
    permissions = ["user:read", "user:update", "user:delete", "admin:write", "admin:delete", "system:manage"]
    key = create_api_key(super_admin, name="all", permissions=permissions)[1]

    data = {"email": NEW, "username": "other", "first_name": "Other"}
    response = api.send(method, "/users/me", data, headers={"X-API-Key": key})

    assert response.status_code == 403
    assert error_code(response) == "2004"
    assert User.objects.filter(username="super-admin", first_name="", is_active=True).exists()
