"""The login and the password form of the operator pages: the same lockouts, limits and second factors as in the API."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.lockouts import GuessAttempt, LockoutSubject, account
from accounts.login.equal_time import TICK_SECONDS
from accounts.login.login import Credentials, log_in_staff
from accounts.login.password_reset import set_password
from accounts.models import User
from accounts.tests.conftest import NOTICE, Clock, Phone, failures_of, mail_about, phone_of, post
from accounts.tests.operators import actors_of, browser, me, signed_in
from accounts.tokens.issuing import issue_tokens
from accounts.users.locks import lock_user, unlock_user
from accounts.users.profile import delete_account
from accounts.users.staff import change_role, end_sessions, reset_second_factors
from conftest import PASSWORD, ApiClient, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.env import Environment
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import WrongCredentials
from lucid_gateway.policy.roles import Role
from ratelimit.engine.limiter import admit
from ratelimit.engine.limits import default_limit
from testing.mail import Mailbox

LOGIN = "/admin/login/?next=/admin/"
PASSWORD_PAGE = "/admin/password_change/"
WRONG = "The email, password or code is wrong, or the account is not a staff account."
HERE = LockoutSubject("address", "127.0.0.1")
NEW = "Better-Horse-8"


def log_in(user: User | str, second: str = "", password: str = PASSWORD, **extra: Any) -> Any:
    """Fill in the login form and send it."""
    data = {"username": str(user), "password": password, "second_factor": second}
    return browser().post(LOGIN, data, **extra)


def outcome(response: Any) -> str:
    """Return `in`, or the error message of the form."""
    if response.status_code == 302:
        return "in"
    assert "sessionid" not in response.cookies
    problem: str = response.context["form"].non_field_errors()[0]
    assert problem in response.content.decode()
    return problem


def fail(count: int, subject: LockoutSubject) -> None:
    """Let the subject fail `count` times."""
    for _ in range(count):
        GuessAttempt(subject)


def count_logins(count: int) -> None:
    """Count `count` logins of the address."""
    for _ in range(count):
        admit(default_limit("login_attempt"), keys.address("127.0.0.1", "admin"))


def change_password(client: Client, old: str = PASSWORD, new: str = NEW) -> Any:
    """Fill in the form for a new password and send it."""
    return client.post(PASSWORD_PAGE, {"old_password": old, "new_password1": new, "new_password2": new})


@pytest.fixture
def phone(admin: User, clock: Clock) -> Phone:
    """The admin's phone: from here on logins ask for its codes."""
    return phone_of(admin, clock)


@pytest.fixture
def three_a_minute(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """An address may log in three times a minute."""
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE": 3})
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


@pytest.fixture
def no_redis() -> None:
    """Redis is unavailable until the end of the test."""
    breaker.outage = Outage()


def test_a_user_with_totp_must_enter_a_code(admin: User, phone: Phone) -> None:
    assert outcome(log_in(admin)) == WRONG
    assert outcome(log_in(admin, "000000")) == WRONG
    assert outcome(log_in(admin, phone.fresh_code(), password="Wrong-Horse-7")) == WRONG
    assert outcome(log_in(admin, phone.code())) == "in"


def test_a_totp_code_works_once(admin: User, phone: Phone) -> None:
    code = phone.fresh_code()

    assert [outcome(log_in(admin, code)) for _ in range(2)] == ["in", WRONG]


def test_a_recovery_code_works_once_instead(admin: User, phone: Phone) -> None:
    code = phone.recovery_codes[0].upper()

    assert outcome(log_in(admin, "abcd-efgh-jkmn-pqrs")) == WRONG
    assert [outcome(log_in(admin, code)) for _ in range(2)] == ["in", WRONG]


def test_a_code_is_ignored_if_the_account_has_no_second_factor(admin: User) -> None:
    assert outcome(log_in(admin, "000000")) == "in"


def test_logins_and_failed_logins_are_recorded(admin: User, phone: Phone) -> None:
    log_in(admin, "000000")
    log_in(admin, phone.fresh_code())

    assert actors_of("admin.login") == actors_of("login.failed") == [(str(admin.pk), str(admin.pk))]
    assert AuditEvent.objects.get(type="admin.login").details == {"method": "password+totp"}


@pytest.mark.parametrize("email", ["admin@example.org", "nobody@example.org"])
def test_a_failed_login_counts_against_account_and_address(admin: User, email: str) -> None:
    assert outcome(log_in(email.upper(), password="Wrong-Horse-7")) == WRONG

    assert (failures_of(account(email)), failures_of(HERE)) == (1, 1)


def test_a_login_resets_the_failures(admin: User) -> None:
    fail(3, account(admin.email))
    log_in(admin)

    assert (failures_of(account(admin.email)), failures_of(HERE)) == (0, 0)


@pytest.mark.parametrize("email", ["admin@example.org", "nobody@example.org"])
def test_an_account_is_locked_out_after_ten_failures(admin: User, email: str) -> None:
    fail(9, account(email))
    assert outcome(log_in(email, password="Wrong-Horse-7")) == WRONG

    assert outcome(log_in(email)).startswith("Too many attempts. Try again in ")
    assert actors_of("login.blocked") == [(str(admin.pk), str(admin.pk)) if email == admin.email else ("", "")]


def test_failures_at_the_api_and_here_add_up(api: ApiClient, admin: User) -> None:
    fail(9, account(admin.email))
    post(api, "verify", email=admin.email, password="Wrong-Horse-7", totp="000000")

    assert outcome(log_in(admin)).startswith("Too many attempts")


def test_an_address_is_locked_out_after_twenty_failures(admin: User) -> None:
    fail(19, HERE)
    assert outcome(log_in("nobody@example.org")) == WRONG

    assert outcome(log_in(admin)).startswith("Too many attempts")
    assert outcome(log_in(admin, REMOTE_ADDR="198.51.100.7")) == "in"


def test_a_lockout_does_not_end_open_sessions(page: Client, admin: User) -> None:
    fail(10, account(admin.email))
    fail(20, HERE)

    assert page.get("/admin/").status_code == 200


def test_a_login_over_the_limit_is_not_checked(three_a_minute: None, admin: User) -> None:
    count_logins(3)
    response = log_in(admin)

    assert outcome(response).startswith("Too many attempts. Try again in ")
    assert response.status_code == 429
    assert response["Retry-After"] == "30"
    assert (response["X-RateLimit-Limit"], response["X-RateLimit-Remaining"]) == ("3", "0")
    assert 'name="username"' in response.content.decode()
    assert failures_of(HERE) == 0


def test_the_limit_counts_posts_by_address(three_a_minute: None, admin: User) -> None:
    count_logins(3)

    assert log_in(admin).status_code == 429
    assert browser().get(LOGIN).status_code == 200
    assert outcome(log_in(admin, REMOTE_ADDR="198.51.100.7")) == "in"


def test_the_limit_is_ten_a_minute() -> None:
    fields = Environment.model_fields

    assert fields["RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE"].default == 10
    assert fields["RATE_LIMIT_LOGIN_ATTEMPT_BURST_SIZE"].default == 0


def test_without_redis_a_login_shows_an_error_message(no_redis: None, admin: User) -> None:
    response = log_in(admin)

    assert outcome(response) == "The gateway cannot check passwords right now. Try again shortly."
    assert response.status_code == 200


@pytest.mark.parametrize("field", ["username", "password"])
def test_an_empty_field_is_an_error_and_no_attempt(admin: User, field: str) -> None:
    response = browser().post(LOGIN, {"username": admin.email, "password": PASSWORD} | {field: ""})

    assert response.context["form"].errors == {field: ["This field is required."]}
    assert failures_of(HERE) == 0


ENDINGS: dict[str, Callable[[User], object]] = {
    "lock": lambda user: lock_user(user, reason="", by=""),
    "lock and unlock": lambda user: (lock_user(user, reason="", by=""), unlock_user(user, by="")),
    "role": lambda user: change_role(user, Role.SUPER_ADMIN, by="somebody"),
    "sessions": lambda user: end_sessions(user, by=""),
    "password": lambda user: set_password(user, NEW),
    "second factors": lambda user: reset_second_factors(user, by=""),
    "deletion": lambda user: delete_account(user, by=""),
}


def test_an_open_session_ends_immediately(db: None) -> None:
    for number, (ending, end) in enumerate(ENDINGS.items()):
        user = make_user(f"admin-{number}", Role.ADMIN)
        page = signed_in(user)
        assert page.get("/admin/").status_code == 200, ending
        end(User.objects.get(pk=user.pk))
        assert page.get("/admin/").status_code == 302, ending


def test_logging_out_everywhere_by_the_api_ends_the_session(api: ApiClient, page: Client, admin: User) -> None:
    assert api.send("post", "/auth/logout", {"everywhere": True}, token=issue_tokens(admin).access).status_code == 200

    assert page.get("/admin/").status_code == 302


def test_logging_out_ends_the_session_itself(page: Client) -> None:
    cookie = page.cookies["sessionid"].value
    assert page.post("/admin/logout/").status_code == 200

    page.cookies["sessionid"] = cookie
    assert page.get("/admin/").status_code == 302


def test_an_operator_changes_their_own_password(page: Client, admin: User, mailbox: Mailbox) -> None:
    assert "too short" in change_password(page, new="weak").content.decode()

    assert change_password(page).status_code == 302
    admin.refresh_from_db()
    assert admin.check_password(NEW)
    assert actors_of("user.password_changed") == [(str(admin.pk), str(admin.pk))]
    assert "The password was changed" in mail_about(mailbox, NOTICE, admin.email)


def test_a_new_password_ends_everything_but_the_session_it_was_set_in(
    api: ApiClient, page: Client, admin: User
) -> None:
    other, tokens = signed_in(admin), issue_tokens(admin)
    change_password(page)

    assert me(api, tokens) == "2003"
    assert (page.get("/admin/").status_code, other.get("/admin/").status_code) == (200, 302)


def test_wrong_old_passwords_lead_to_a_lockout(page: Client, admin: User) -> None:
    fail(9, account(admin.email))
    assert "entered incorrectly" in change_password(page, old="Wrong-Horse-7").content.decode()

    assert "Too many attempts. Try again in " in change_password(page).content.decode()
    admin.refresh_from_db()
    assert admin.check_password(PASSWORD)


def test_the_password_form_does_not_reset_failures(page: Client, admin: User) -> None:
    for _ in range(3):
        GuessAttempt(account(admin.email), HERE)

    assert change_password(page).status_code == 302
    assert (failures_of(account(admin.email)), failures_of(HERE)) == (3, 3)


def test_without_redis_a_new_password_shows_an_error_message(page: Client, no_redis: None) -> None:
    response = change_password(page)

    assert response.status_code == 200
    assert "The gateway cannot check passwords right now" in response.content.decode()


def test_an_undecryptable_totp_secret_is_reported_and_a_recovery_code_works(admin: User, phone: Phone) -> None:
    User.objects.filter(pk=admin.pk).update(totp_secret="of another SECRET_KEY")

    assert "use a recovery code" in outcome(log_in(admin, phone.fresh_code()))
    assert outcome(log_in(admin, phone.recovery_codes[0])) == "in"


@pytest.mark.parametrize("email", ["nobody@example.org", "admin@example.org"])
def test_a_refusal_takes_whole_ticks_so_that_its_time_does_not_reveal_the_account(admin: User, email: str) -> None:
    """Without the wait, a refusal takes a fifth of a tick with the hashes of these tests."""
    credentials = Credentials(email, password="Wrong-Horse-7")
    for _ in range(3):
        started = time.monotonic()
        with pytest.raises(WrongCredentials):
            log_in_staff(credentials)
        assert time.monotonic() - started >= TICK_SECONDS
