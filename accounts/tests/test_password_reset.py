"""POST /auth/password/reset and /auth/password/reset/confirm."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.hashers import check_password
from redis import Redis

from accounts.login.password_reset import LIFETIME_SECONDS, PURPOSE
from accounts.models import IssuedToken, User
from accounts.tests.conftest import (
    LOGIN,
    RESET,
    Phone,
    link_in,
    mail_about,
    notices_to,
    post,
    token_in,
    use,
    wait_for_senders,
)
from accounts.tokens.issuing import TokenPair
from accounts.users.locks import lock_user
from conftest import PASSWORD, ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.secrets.digests import secret_hash
from lucid_gateway.policy import keys
from testing.mail import Mailbox
from testing.parallel import in_parallel

NEW = "Another-Horse-8"
NOBODY = "nobody@example.org"


def reset(api: ApiClient, email: Any) -> Any:
    return post(api, "password/reset", email=email)


def confirm(api: ApiClient, token: Any, password: Any = NEW) -> Any:
    return post(api, "password/reset/confirm", token=token, password=password)


@pytest.fixture
def link(api: ApiClient, owner: User, mailbox: Mailbox) -> str:
    """The token of the reset link that was mailed to the owner."""
    assert reset(api, owner.email).status_code == 200
    return token_in(mailbox, owner.email, subject=RESET)


def test_every_email_gets_the_same_answer_and_active_accounts_get_a_mail(
    api: ApiClient, owner: User, node_operator: User, super_admin: User, mailbox: Mailbox
) -> None:
    lock_user(node_operator, reason="", by="")
    User.objects.filter(pk=super_admin.pk).update(is_active=False)

    responses = [reset(api, email) for email in (owner.email, node_operator.email, super_admin.email, NOBODY)]
    wait_for_senders()

    assert {(response.status_code, response.content) for response in responses} == {
        (200, b'{"message":"If the address has an account, a link is on its way.","expires_in":1800}\n')
    }
    assert len({tuple(sorted(response.headers)) for response in responses}) == 1
    assert [mail["To"] for mail in mailbox.mails] == [owner.email]


def test_the_mail_has_a_link_with_its_secret_in_the_fragment(link: str, mailbox: Mailbox) -> None:
    mailed = urlsplit(link_in(mailbox, "owner@example.org", subject=RESET))

    assert mailed._replace(fragment="").geturl() == "http://127.0.0.1:8080/reset-password"
    assert mailed.fragment == f"token={link}"
    assert len(link) >= 43
    assert "30 minutes" in mail_about(mailbox, RESET, "owner@example.org")


def test_the_link_sets_the_password(api: ApiClient, owner: User, link: str, mailbox: Mailbox) -> None:
    response = confirm(api, link)

    assert response.status_code == 200
    assert response.json() == {"message": "The password was set. Log in with the new password."}
    owner.refresh_from_db()
    assert check_password(NEW, owner.password)
    assert "password was changed" in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="user.password_reset", subject=str(owner.pk)).count() == 1


def test_the_link_works_once(api: ApiClient, owner: User, link: str) -> None:
    assert confirm(api, link).status_code == 200

    response = confirm(api, link, "Yet-Another-Horse-9")
    assert (response.status_code, error_code(response)) == (401, "2006")
    owner.refresh_from_db()
    assert check_password(NEW, owner.password)


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_one_succeeds(link: str) -> None:
    statuses = in_parallel(4, lambda _: confirm(ApiClient(HTTP_HOST="testserver"), link).status_code)

    assert sorted(statuses) == [200] + [401] * 3


WEAK = [
    "Sh0rt",
    "alllowercase7",
    "ALLUPPERCASE7",
    "No-Digits-Here",
    "Password1",
    "Owner@example.org1",
    "A1" + "a" * 127,
]


def test_a_weak_password_does_not_use_up_the_link(api: ApiClient, link: str) -> None:
    for weak in WEAK:
        response = confirm(api, link, weak)
        assert (weak, response.status_code, error_code(response)) == (weak, 422, "1007")
        assert {problem["field"] for problem in response.json()["error"]["details"]["validation_errors"]} == {
            "password"
        }

    assert confirm(api, link).status_code == 200


def test_with_a_wrong_link_the_answer_does_not_mention_a_weak_password(api: ApiClient, db: None) -> None:
    assert error_code(confirm(api, "nothing", "weak")) == "2006"


def test_all_tokens_end(api: ApiClient, owner: User, tokens: TokenPair, link: str) -> None:
    assert api.send("get", "/users/me", token=tokens.access).status_code == 200
    confirm(api, link)

    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert use(api, tokens.refresh) == 401
    assert not IssuedToken.objects.live().exists()


def test_second_factors_stay(api: ApiClient, owner: User, phone: Phone, link: str) -> None:
    confirm(api, link)
    shown = {"email": owner.email, "password": NEW}

    assert error_code(post(api, "verify", **shown, totp="000000")) == "2001"
    assert post(api, "verify", **shown, recovery_code=phone.recovery_codes[0]).status_code == 200


def test_other_links_are_void_afterwards(api: ApiClient, owner: User, link: str, mailbox: Mailbox) -> None:
    reset(api, owner.email)
    newer = token_in(mailbox, owner.email, 2, RESET)
    assert confirm(api, newer).status_code == 200

    assert error_code(confirm(api, link, "Yet-Another-Horse-9")) == "2006"


def test_links_are_void_once_all_logins_were_ended(api: ApiClient, tokens: TokenPair, link: str) -> None:
    assert post(api, "logout", tokens.access, everywhere=True).status_code == 200

    assert error_code(confirm(api, link)) == "2006"


def test_a_link_to_a_former_address_of_the_account_is_void(api: ApiClient, owner: User, link: str) -> None:
    User.objects.filter(pk=owner.pk).update(email="new@example.org")

    assert error_code(confirm(api, link)) == "2006"
    owner.refresh_from_db()
    assert check_password(PASSWORD, owner.password)


def test_a_user_who_was_locked_or_deactivated_after_the_mail_stays_out(api: ApiClient, owner: User, link: str) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert error_code(confirm(api, link)) == "2006"
    User.objects.filter(pk=owner.pk).update(is_active=True)
    lock_user(owner, reason="", by="")

    assert error_code(confirm(api, link)) == "2006"
    owner.refresh_from_db()
    assert check_password(PASSWORD, owner.password)


def test_a_link_expires_after_half_an_hour_and_is_stored_as_a_hash(
    api: ApiClient, link: str, empty_redis: Redis
) -> None:
    (key,) = empty_redis.keys("mail_link:*")
    assert key.decode() == keys.mail_link(PURPOSE, secret_hash(link))
    assert link not in repr((key, empty_redis.get(key)))
    assert LIFETIME_SECONDS - 5 <= empty_redis.ttl(key) <= LIFETIME_SECONDS == 1800
    empty_redis.pexpire(key, 1)
    while empty_redis.exists(key):
        pass

    assert error_code(confirm(api, link)) == "2006"


def test_five_links_in_five_minutes_known_or_not(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    refused = []
    for email in (owner.email, NOBODY):
        assert {reset(api, email).status_code for _ in range(5)} == {200}
        refused.append(reset(api, email))
    wait_for_senders()

    for response in refused:
        assert (response.status_code, error_code(response)) == (429, "3003")
        assert 290 <= int(response["Retry-After"]) <= 300
    assert len(mailbox.mails) == 5


def test_a_reset_and_a_login_do_not_count_against_each_other(api: ApiClient, owner: User, mailbox: Mailbox) -> None:
    assert {reset(api, owner.email).status_code for _ in range(5)} == {200}

    assert post(api, "login", email=owner.email).status_code == 200
    assert mail_about(mailbox, LOGIN, owner.email)


def test_a_reset_link_does_not_log_in(api: ApiClient, link: str) -> None:
    assert error_code(post(api, "verify", email="owner@example.org", token=link)) == "2006"
    assert error_code(post(api, "email/confirm", token=link)) == "2006"


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        ("", {}, "1002"),
        ("", {"email": "owner"}, "1006"),
        ("", {"email": None}, "1002"),
        ("", {"email": ["owner@example.org"]}, "1003"),
        ("/confirm", {"password": NEW}, "1002"),
        ("/confirm", {"token": "t"}, "1002"),
        ("/confirm", {"token": "t" * 101, "password": NEW}, "1004"),
        ("/confirm", {"token": "t", "password": "p" * 1025}, "1004"),
        ("/confirm", {"token": {}, "password": NEW}, "1003"),
        ("/confirm", {"token": "t", "password": None}, "1002"),
    ],
)
def test_invalid_fields_are_refused(api: ApiClient, path: str, data: Any, code: str) -> None:
    response = api.send("post", f"/auth/password/reset{path}", data)

    assert (response.status_code, error_code(response)) == (422, code)
