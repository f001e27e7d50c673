"""POST /auth/password/change."""

from typing import Any

import pytest
from django.contrib.auth.hashers import check_password

from accounts.lockouts import account
from accounts.models import User
from accounts.tests.conftest import RESET, Phone, failures_of, notices_to, post, token_in, use
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import PASSWORD, ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox

NEW = "Another-Horse-8"


def change(api: ApiClient, tokens: TokenPair, current: Any = PASSWORD, password: Any = NEW) -> Any:
    return post(api, "password/change", tokens.access, current_password=current, password=password)


def test_the_password_changes_and_the_caller_gets_new_tokens(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    response = change(api, tokens)

    assert response.status_code == 200
    assert set(response.json()) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    owner.refresh_from_db()
    assert check_password(NEW, owner.password)
    assert api.send("get", "/users/me", token=response.json()["access_token"]).status_code == 200
    assert use(api, response.json()["refresh_token"]) == 200
    assert "password was changed" in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="user.password_changed", subject=str(owner.pk)).count() == 1


def test_all_other_tokens_end(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    elsewhere = issue_tokens(owner)
    assert change(api, tokens).status_code == 200

    for pair in (tokens, elsewhere):
        assert error_code(api.send("get", "/users/me", token=pair.access)) == "2003"
        assert use(api, pair.refresh) == 401


def test_an_unused_reset_link_is_void(api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox) -> None:
    post(api, "password/reset", email=owner.email)
    link = token_in(mailbox, owner.email, subject=RESET)
    assert change(api, tokens).status_code == 200

    assert error_code(post(api, "password/reset/confirm", token=link, password="Yet-Another-Horse-9")) == "2006"


def test_a_wrong_password_changes_nothing(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = change(api, tokens, current="Wrong-Horse-7")

    assert (response.status_code, error_code(response)) == (401, "2001")
    owner.refresh_from_db()
    assert check_password(PASSWORD, owner.password)
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200


def test_guesses_with_a_stolen_token_are_locked_out(
    api: ApiClient, tokens: TokenPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.login.password_reset.check_password", lambda user, password: password == PASSWORD)
    codes = [error_code(change(api, tokens, current="Wrong-Horse-7")) for _ in range(11)]

    assert codes == ["2001"] * 10 + ["3003"]
    assert error_code(change(api, tokens)) == "3003"


def test_a_weak_password_is_refused_and_does_not_count_as_a_guess(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    response = change(api, tokens, current="Wrong-Horse-7", password="weak")

    assert (response.status_code, error_code(response)) == (422, "1007")
    assert failures_of(account(owner.email)) == 0


def test_second_factors_stay(api: ApiClient, owner: User, tokens: TokenPair, phone: Phone) -> None:
    assert change(api, tokens).json()["user"]["totp_enabled"] is True


UNFIT = [
    ({"password": NEW}, "1002"),
    ({"current_password": PASSWORD}, "1002"),
    ({"current_password": None, "password": NEW}, "1002"),
    ({"current_password": "p" * 1025, "password": NEW}, "1004"),
    ({"current_password": PASSWORD, "password": ["p"]}, "1003"),
]


def test_invalid_fields_are_refused(api: ApiClient, tokens: TokenPair) -> None:
    for data, code in UNFIT:
        response = api.send("post", "/auth/password/change", data, token=tokens.access)
        assert (data, response.status_code, error_code(response)) == (data, 422, code)


def test_it_needs_an_access_token(api: ApiClient) -> None:
    assert error_code(post(api, "password/change", current_password=PASSWORD, password=NEW)) == "2001"
