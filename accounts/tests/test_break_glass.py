"""Logins of the operator pages while Redis is down: a super admin with a code gets in, and attempts are limited."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.factors import hardware_wallet
from accounts.login import break_glass
from accounts.models import User
from accounts.tests.conftest import WALLET_ADDRESS, Clock, Phone, phone_of, signature_of
from accounts.tests.operators import browser, choose, prove, signed_in
from accounts.users.locks import lock_user
from conftest import PASSWORD, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import Outage, RedisCallFailed, breaker
from lucid_gateway.operators.identity import PROOF_SECONDS
from lucid_gateway.policy.roles import Role

LOGIN = "/admin/login/?next=/admin/"
NOTICE = "Redis is unavailable. Until it is back, only super admins can sign in"
UNAVAILABLE = "The gateway cannot check passwords right now. Try again shortly."
WRONG = "The email, password or code is wrong, or the account is not a staff account."


class Minute:
    """The clock of the limits: it stands still."""

    def __init__(self) -> None:
        self.now = 1_800_000_000

    def time(self) -> int:
        """Return the time (called in place of time.time)."""
        return self.now


@pytest.fixture(autouse=True)
def minute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Minute]:
    """Each test starts without attempts, in a minute that does not end by itself."""
    minute = Minute()
    monkeypatch.setattr(break_glass, "time", minute)
    break_glass.attempts.clear()
    yield minute
    break_glass.attempts.clear()


@pytest.fixture
def phone(super_admin: User, clock: Clock) -> Phone:
    """The super admin's phone."""
    return phone_of(super_admin, clock)


@pytest.fixture
def no_redis() -> None:
    """Redis is down until the end of the test."""
    breaker.outage = Outage()


def log_in(user: User | str, second: str = "", password: str = PASSWORD, **extra: Any) -> Any:
    return browser().post(LOGIN, {"username": str(user), "password": password, "second_factor": second}, **extra)


def outcome(response: Any) -> str:
    """Return `in`, or the error message of the form."""
    if response.status_code == 302:
        return "in"
    assert "sessionid" not in response.cookies
    text: str = response.context["form"].non_field_errors()[0]
    return text


def test_a_super_admin_with_a_code_gets_in_and_the_audit_log_says_how(
    super_admin: User, phone: Phone, no_redis: None
) -> None:
    client = browser()
    form = {"username": super_admin.email, "password": PASSWORD, "second_factor": phone.fresh_code()}
    assert client.post(LOGIN, form).status_code == 302

    assert client.get("/admin/accounts/user/").status_code == 200
    assert AuditEvent.objects.get(type="admin.login").details == {"method": "password+totp", "break_glass": True}


def test_with_redis_the_audit_log_does_not_mention_it(super_admin: User, phone: Phone) -> None:
    assert outcome(log_in(super_admin, phone.fresh_code())) == "in"

    assert AuditEvent.objects.get(type="admin.login").details == {"method": "password+totp"}


def test_a_code_works_once_without_redis_too(super_admin: User, phone: Phone, no_redis: None) -> None:
    code = phone.fresh_code()

    assert [outcome(log_in(super_admin, code)) for _ in range(2)] == ["in", WRONG]


def test_a_code_that_was_used_before_the_outage_does_not_work_in_it(super_admin: User, phone: Phone) -> None:
    code = phone.fresh_code()
    assert outcome(log_in(super_admin, code)) == "in"
    breaker.outage = Outage()

    assert outcome(log_in(super_admin, code)) == WRONG


@pytest.mark.parametrize(("password", "code"), [("Wrong-Horse-7", ""), (PASSWORD, "000000")])
def test_a_wrong_password_or_code_is_refused_and_recorded(
    super_admin: User, phone: Phone, no_redis: None, password: str, code: str
) -> None:
    assert outcome(log_in(super_admin, code or phone.fresh_code(), password=password)) == WRONG

    assert AuditEvent.objects.filter(type="login.failed", subject=str(super_admin.pk)).count() == 1


def test_a_wrong_password_does_not_use_up_the_code(super_admin: User, phone: Phone, no_redis: None) -> None:
    code = phone.fresh_code()
    log_in(super_admin, code, password="Wrong-Horse-7")

    assert outcome(log_in(super_admin, code)) == "in"


@pytest.mark.parametrize("second", ["", "recovery code"])
def test_without_a_code_nothing_is_checked(super_admin: User, phone: Phone, no_redis: None, second: str) -> None:
    given = phone.recovery_codes[0] if second else ""

    assert outcome(log_in(super_admin, given)) == UNAVAILABLE
    assert super_admin.recovery_codes.filter(used_at=None).count() == 10
    assert AuditEvent.objects.filter(type__startswith="login").count() == 0


def test_an_admin_does_not_get_in(admin: User, clock: Clock) -> None:
    phone = phone_of(admin, clock)
    breaker.outage = Outage()

    assert outcome(log_in(admin, phone.fresh_code())) == WRONG


def test_a_super_admin_without_an_app_does_not_get_in(super_admin: User, no_redis: None) -> None:
    assert outcome(log_in(super_admin, "123456")) == WRONG


def test_a_super_admin_with_a_wallet_beside_the_app_does_not_get_in(super_admin: User, phone: Phone) -> None:
    challenge = hardware_wallet.start_registration(super_admin, WALLET_ADDRESS)
    hardware_wallet.confirm_registration(super_admin, signature_of(challenge))
    breaker.outage = Outage()

    assert outcome(log_in(super_admin, phone.fresh_code())) == WRONG


def test_a_locked_super_admin_does_not_get_in(super_admin: User, phone: Phone, no_redis: None) -> None:
    lock_user(super_admin, reason="", by="")

    assert outcome(log_in(super_admin, phone.fresh_code())) == WRONG


def test_an_account_has_five_attempts_a_minute(super_admin: User, phone: Phone, no_redis: None, minute: Minute) -> None:
    for number in range(5):
        assert outcome(log_in(super_admin, "000000", REMOTE_ADDR=f"198.51.100.{number}")) == WRONG

    refused = outcome(log_in(super_admin, phone.fresh_code(), REMOTE_ADDR="198.51.100.9"))
    assert refused == "Too many attempts. Try again in 60 seconds."
    minute.now += 60
    assert outcome(log_in(super_admin, phone.code())) == "in"


def test_an_address_has_five_attempts_a_minute(super_admin: User, phone: Phone, no_redis: None) -> None:
    for number in range(5):
        assert outcome(log_in(f"nobody-{number}@example.org", "000000")) == WRONG

    assert outcome(log_in(super_admin, phone.fresh_code())).startswith("Too many attempts.")
    assert outcome(log_in(super_admin, phone.code(), REMOTE_ADDR="198.51.100.7")) == "in"


def test_a_process_allows_twenty_attempts_a_minute_in_all(super_admin: User, phone: Phone, no_redis: None) -> None:
    for number in range(20):
        assert outcome(log_in(f"n{number}@example.org", "000000", REMOTE_ADDR=f"198.51.100.{number}")) == WRONG

    assert outcome(log_in(super_admin, phone.fresh_code())).startswith("Too many attempts.")


def test_refused_attempts_of_one_address_leave_those_of_others(super_admin: User, phone: Phone, no_redis: None) -> None:
    for number in range(40):
        log_in(f"n{number}@example.org", "000000", REMOTE_ADDR="198.51.100.7")

    assert outcome(log_in(super_admin, phone.fresh_code())) == "in"


def test_a_single_failed_call_to_redis_is_no_outage(
    super_admin: User, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RedisCallFailed("PoolBusy")

    monkeypatch.setattr("accounts.lockouts.charge_script", fail)

    assert outcome(log_in(super_admin, phone.fresh_code())) == UNAVAILABLE


def test_the_login_page_says_who_can_sign_in(db: None) -> None:
    assert NOTICE not in browser().get(LOGIN).content.decode()
    breaker.outage = Outage()

    assert NOTICE in browser().get(LOGIN).content.decode()
    assert NOTICE in log_in("nobody@example.org").content.decode()


@pytest.fixture
def late_page(super_admin: User) -> Client:
    """The browser of the super admin, who entered the password more than 15 minutes ago."""
    client = signed_in(super_admin)
    prove(client, seconds_ago=PROOF_SECONDS + 60)
    return client


def delete(client: Client, user: User, proof: str) -> Any:
    return choose(client, "delete_accounts", user, _confirmed="yes", proof=proof)


def test_a_super_admin_confirms_a_dangerous_action_with_a_code(
    late_page: Client, phone: Phone, no_redis: None, owner: User
) -> None:
    code = phone.fresh_code()
    delete(late_page, owner, code)

    owner.refresh_from_db()
    assert not owner.is_active
    prove(late_page, seconds_ago=PROOF_SECONDS + 60)
    again = delete(late_page, make_user("other", Role.USER), code)
    assert again.context["form"].errors["proof"] == ["The password or code is wrong."]


def test_guesses_at_a_confirmation_are_limited(late_page: Client, phone: Phone, no_redis: None, owner: User) -> None:
    for _ in range(5):
        delete(late_page, owner, "000000")

    refused = delete(late_page, owner, phone.fresh_code())
    assert refused.context["form"].errors["proof"][0].startswith("Too many attempts.")
    owner.refresh_from_db()
    assert owner.is_active
