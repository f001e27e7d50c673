"""POST /auth/verify: the mailed code works once; five wrong guesses, parallel or not, end it."""

from typing import Any

import pytest
from redis import Redis

from accounts.models import IssuedToken, User
from accounts.tests.conftest import code_in, wrong
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel


def verify(api: ApiClient, code: Any, email: str = "owner@example.org", **extra: Any) -> Any:
    return api.send("post", "/auth/verify", {"email": email, "code": code}, **extra)


def test_the_code_gives_tokens_and_the_user(api: ApiClient, owner: User, code: str) -> None:
    response = verify(api, code)

    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert body["user"]["user_id"] == str(owner.pk)
    assert api.send("get", "/users/me", token=body["access_token"]).status_code == 200


def test_a_login_is_recorded_and_proves_the_email(api: ApiClient, owner: User, code: str) -> None:
    user = verify(api, code).json()["user"]

    owner.refresh_from_db()
    assert user["email_verified"] is owner.email_verified is True
    assert user["last_login"] is not None
    assert owner.last_login is not None


def test_the_tokens_are_recorded_as_one_family_with_the_device(api: ApiClient, owner: User, code: str) -> None:
    verify(api, code, headers={"User-Agent": "browser " * 50})

    rows = list(IssuedToken.objects.filter(user=owner))
    assert {row.kind for row in rows} == {"access", "refresh"}
    assert len({row.family for row in rows}) == 1
    assert {row.address for row in rows} == {"127.0.0.1"}
    assert {row.user_agent for row in rows} == {("browser " * 50)[:200]}


def test_the_code_works_once(api: ApiClient, code: str) -> None:
    assert verify(api, code).status_code == 200

    assert error_code(verify(api, code)) == "2006"


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_uses_of_the_code_one_succeeds(api: ApiClient, code: str) -> None:
    statuses = in_parallel(8, lambda _: verify(ApiClient(HTTP_HOST="testserver"), code).status_code)

    assert sorted(statuses) == [200] + [401] * 7


def test_a_wrong_code_is_refused_and_the_right_one_still_works(api: ApiClient, code: str) -> None:
    response = verify(api, wrong(code))

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert error_code(response) == "2007"
    assert verify(api, code).status_code == 200


def test_the_fifth_guess_may_be_right(api: ApiClient, code: str) -> None:
    for _ in range(4):
        verify(api, wrong(code))

    assert verify(api, code).status_code == 200


def test_five_wrong_guesses_end_the_code(api: ApiClient, code: str) -> None:
    codes = [error_code(verify(api, wrong(code))) for _ in range(5)]

    assert codes == ["2007"] * 5
    assert error_code(verify(api, code)) == "2006"


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_guesses_five_are_checked(api: ApiClient, code: str) -> None:
    codes = in_parallel(20, lambda _: error_code(verify(ApiClient(HTTP_HOST="testserver"), wrong(code))))

    # Each is charged to the account until it is settled, so that some may find the account locked out meanwhile.
    assert codes.count("2007") == 5
    assert set(codes) <= {"2006", "2007", "3003"}
    assert error_code(verify(api, code)) == "2006"


def test_failures_are_counted_on_the_account_until_a_login_succeeds(api: ApiClient, owner: User, code: str) -> None:
    verify(api, wrong(code))
    owner.refresh_from_db()
    assert owner.login_attempts == 1
    verify(api, code)

    owner.refresh_from_db()
    assert owner.login_attempts == 0


def test_the_audit_log_records_how_each_login_ended(api: ApiClient, owner: User, code: str) -> None:
    verify(api, wrong(code))
    verify(api, code)

    failed, succeeded = AuditEvent.objects.filter(type__startswith="login.").order_by("created_at")
    assert (failed.type, failed.outcome, failed.subject) == ("login.failed", "failure", str(owner.pk))
    assert (failed.address, failed.details["code"]) == ("127.0.0.1", "LUCID_ERR_2007")
    assert (succeeded.type, succeeded.outcome, succeeded.details) == ("login.succeeded", "success", {"method": "code"})
    assert code not in repr(failed.details)


def test_guesses_do_not_make_the_code_last_longer(api: ApiClient, code: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")
    empty_redis.expire(key, 100)
    verify(api, wrong(code))

    assert 0 < empty_redis.ttl(key) <= 100


def test_an_expired_code_is_refused(api: ApiClient, code: str, empty_redis: Redis) -> None:
    (key,) = empty_redis.keys("*:waiting")
    empty_redis.pexpire(key, 1)
    while empty_redis.exists(key):
        pass

    assert error_code(verify(api, code)) == "2006"


def test_a_new_login_replaces_the_code_and_the_guesses(api: ApiClient, code: str, mailbox: Mailbox) -> None:
    for _ in range(4):
        verify(api, wrong(code))
    api.send("post", "/auth/login", {"email": "owner@example.org"})
    new = code_in(mailbox, "owner@example.org", 2)

    if new != code:
        assert error_code(verify(api, code)) == "2007"
    assert verify(api, new).status_code == 200


def test_the_code_is_valid_for_its_email_only(api: ApiClient, code: str, node_operator: User, mailbox: Mailbox) -> None:
    api.send("post", "/auth/login", {"email": node_operator.email})
    others = code_in(mailbox, node_operator.email)

    if others != code:
        assert error_code(verify(api, code, node_operator.email)) == "2007"


def test_the_email_is_case_insensitive(api: ApiClient, code: str) -> None:
    assert verify(api, code, "Owner@EXAMPLE.org").status_code == 200


def test_a_code_without_a_login_is_refused(api: ApiClient, owner: User) -> None:
    assert error_code(verify(api, "123456")) == "2006"


def test_guesses_at_known_unknown_and_locked_accounts_get_the_same_answers(
    api: ApiClient, code: str, node_operator: User, mailbox: Mailbox
) -> None:
    lock_user(node_operator, reason="", by="")

    def guesses(email: str) -> list[tuple[str, str]]:
        api.send("post", "/auth/login", {"email": email})
        bodies = [verify(api, "000000", email).json()["error"] for _ in range(7)]
        return [(body["code"], body["message"]) for body in bodies]

    locked, unknown = guesses(node_operator.email), guesses("nobody@example.org")
    assert locked == unknown
    assert [code.removeprefix("LUCID_ERR_") for code, _ in unknown] == ["2007"] * 5 + ["2006"] * 2


def test_a_lock_after_the_mail_keeps_the_user_out(api: ApiClient, owner: User, code: str) -> None:
    lock_user(owner, reason="", by="")

    assert error_code(verify(api, code)) == "2005"
    assert not IssuedToken.objects.exists()


def test_a_deactivation_after_the_mail_keeps_the_user_out(api: ApiClient, owner: User, code: str) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)

    assert error_code(verify(api, code)) == "2006"
    assert not IssuedToken.objects.exists()


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16", "123456\n1", None, [], {}]
)
def test_a_malformed_code_is_refused_and_does_not_count_as_a_guess(api: ApiClient, code: Any) -> None:
    assert verify(api, code).status_code == 422


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        ({}, "1002"),
        ({"totp": "123456"}, "1002"),
        ({"code": "123456", "token": "t"}, "1003"),
        ({"code": "123456", "password": "p", "totp": "123456"}, "1003"),
        ({"token": "t", "password": "p", "totp": "123456"}, "1003"),
        ({"code": "123456", "totp": "123456", "recovery_code": "r"}, "1003"),
        ({"password": "p"}, "1002"),
        ({"token": ""}, "1002"),
        ({"token": None}, "1002"),
        ({"token": "t" * 101}, "1004"),
        ({"token": ["t"]}, "1003"),
        ({"token": "t\x00"}, "1003"),
        ({"password": "", "totp": "123456"}, "1002"),
        ({"password": "p" * 1025, "totp": "123456"}, "1004"),
        ({"password": {}, "totp": "123456"}, "1003"),
        ({"code": "123456", "totp": "12345"}, "1003"),
        ({"code": "123456", "totp": None}, "1002"),
        ({"code": "123456", "recovery_code": "r" * 41}, "1004"),
        ({"code": "123456", "recovery_code": ""}, "1002"),
        ({"code": "123456", "signature": "0" * 141}, "1004"),
        ({"code": "123456", "signature": True}, "1003"),
        ({"code": "123456", "signature": []}, "1003"),
    ],
)
def test_exactly_one_first_factor_and_well_formed_second_factors_are_required(
    api: ApiClient, empty_redis: Redis, shown: dict[str, Any], code: str
) -> None:
    response = api.send("post", "/auth/verify", {"email": "owner@example.org"} | shown)

    assert response.status_code == 422
    assert error_code(response) == code
    assert not empty_redis.keys("lockout*")


@pytest.mark.parametrize(
    ("email", "code"), [(None, "1002"), ("", "1002"), ("owner", "1006"), ({}, "1003"), ("a" * 250 + "@b.org", "1004")]
)
def test_an_invalid_email_is_refused(api: ApiClient, email: Any, code: str) -> None:
    response = verify(api, "123456", email)

    assert response.status_code == 422
    assert error_code(response) == code
    assert response.json()["error"]["details"]["validation_errors"][0]["field"] == "email"


def test_a_code_sent_as_a_number_without_its_zeros_is_refused(api: ApiClient) -> None:
    assert error_code(verify(api, 1234)) == "1003"
