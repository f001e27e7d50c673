"""POST /auth/verify with the token of the mailed link: it works once, and only its owner can end it."""

from typing import Any

import pytest
from redis import Redis

from accounts.login.challenges import LIFETIME_SECONDS
from accounts.models import IssuedToken, User
from accounts.tests.conftest import code_in, post, token_in
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code
from testing.mail import Mailbox
from testing.parallel import in_parallel

EMAIL = "owner@example.org"


def verify(api: ApiClient, email: str = EMAIL, **shown: Any) -> Any:
    return post(api, "verify", email=email, **shown)


def test_the_link_gives_tokens_and_proves_the_email(api: ApiClient, token: str) -> None:
    response = verify(api, token=token)

    assert response.status_code == 200
    assert response.json()["user"]["email_verified"] is True
    assert api.send("get", "/users/me", token=response.json()["access_token"]).status_code == 200


def test_the_link_works_once(api: ApiClient, token: str) -> None:
    assert verify(api, token=token).status_code == 200

    assert error_code(verify(api, token=token)) == "2006"


def test_using_the_link_ends_its_code(api: ApiClient, token: str, code: str) -> None:
    assert verify(api, token=token).status_code == 200

    assert error_code(verify(api, code=code)) == "2006"


def test_using_the_code_ends_its_link(api: ApiClient, token: str, code: str) -> None:
    assert verify(api, code=code).status_code == 200

    assert error_code(verify(api, token=token)) == "2006"


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_of_code_and_link_one_succeeds(api: ApiClient, token: str, code: str) -> None:
    shown = [{"token": token}, {"code": code}] * 3
    statuses = in_parallel(6, lambda index: verify(ApiClient(HTTP_HOST="testserver"), **shown[index]).status_code)

    assert sorted(statuses) == [200] + [401] * 5
    assert IssuedToken.objects.count() == 2


def test_a_new_login_leaves_the_link_and_replaces_the_code(
    api: ApiClient, token: str, code: str, mailbox: Mailbox
) -> None:
    post(api, "login", email=EMAIL)

    if code_in(mailbox, EMAIL, 2) != code:
        assert error_code(verify(api, code=code)) == "2007"
    assert verify(api, token=token).status_code == 200


def test_using_a_link_ends_all_others(api: ApiClient, token: str, mailbox: Mailbox) -> None:
    post(api, "login", email=EMAIL)
    newer = token_in(mailbox, EMAIL, 2)
    assert verify(api, token=newer).status_code == 200

    assert error_code(verify(api, token=token)) == "2006"


def test_newer_logins_do_not_change_the_expiry_of_a_link(api: ApiClient, token: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")
    (link,) = [field for field in empty_redis.hkeys(key) if field.startswith(b"l:")]
    empty_redis.hset(key, link.decode(), empty_redis.time()[0])
    post(api, "login", email=EMAIL)

    assert error_code(verify(api, token=token)) == "2006"
    assert not empty_redis.hexists(key, link.decode())


def test_links_expire_after_five_minutes(token: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")
    (ends,) = [int(value) for field, value in empty_redis.hgetall(key).items() if field.startswith(b"l:")]

    assert LIFETIME_SECONDS - 5 <= ends - empty_redis.time()[0] <= LIFETIME_SECONDS
    assert LIFETIME_SECONDS - 5 <= empty_redis.ttl(key) <= LIFETIME_SECONDS


def test_the_token_is_not_in_redis(token: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")

    assert token not in repr(empty_redis.hgetall(key))


def test_a_link_is_valid_for_its_email_only(api: ApiClient, token: str, node_operator: User, mailbox: Mailbox) -> None:
    post(api, "login", email=node_operator.email)

    assert error_code(verify(api, node_operator.email, token=token)) == "2006"
    assert verify(api, token=token).status_code == 200


def test_a_wrong_token_gets_the_same_answer_for_known_and_unknown_addresses(
    api: ApiClient, token: str, empty_redis: Redis
) -> None:
    post(api, "login", email="nobody@example.org")
    wrong = [verify(api, email, token=token[::-1]) for email in (EMAIL, "nobody@example.org")]

    assert [error_code(response) for response in wrong] == ["2006", "2006"]
    assert verify(api, token=token).status_code == 200


def test_five_wrong_codes_do_not_end_the_link(api: ApiClient, token: str, code: str) -> None:
    for _ in range(5):
        verify(api, code=f"{(int(code) + 1) % 10**6:06d}")
    assert error_code(verify(api, code=code)) == "2006"

    assert verify(api, token=token).status_code == 200


def test_the_code_is_not_accepted_as_a_token_nor_the_token_for_another_purpose(
    api: ApiClient, token: str, code: str
) -> None:
    assert error_code(verify(api, token=code)) == "2006"
    assert error_code(post(api, "password/reset/confirm", token=token, password="Correct-Horse-8")) == "2006"


def test_a_lock_after_the_mail_keeps_the_user_out(api: ApiClient, owner: User, token: str) -> None:
    lock_user(owner, reason="", by="")

    assert error_code(verify(api, token=token)) == "2005"
    assert not IssuedToken.objects.exists()


def test_a_deactivation_after_the_mail_keeps_the_user_out(api: ApiClient, owner: User, token: str) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)

    assert error_code(verify(api, token=token)) == "2006"


def test_a_link_to_a_former_address_of_the_account_is_void(api: ApiClient, owner: User, token: str) -> None:
    User.objects.filter(pk=owner.pk).update(email="new@example.org")

    assert error_code(verify(api, token=token)) == "2006"
    assert error_code(verify(api, "new@example.org", token=token)) == "2006"
