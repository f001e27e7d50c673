"""The page for the operator's own second factor, and the setting that makes staff add one first."""

import re
from typing import Any

import pyotp
import pytest
from django.test import Client

from accounts.lockouts import GuessAttempt, account
from accounts.models import RecoveryCode, User
from accounts.tests.conftest import Clock, notices_to, phone_of, wrong
from accounts.tests.operators import actors_of, browser, messages_of, prove, signed_in
from conftest import PASSWORD, error_code, make_user
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.operators.identity import PROOF_SECONDS
from lucid_gateway.policy.roles import STAFF, Role
from testing.mail import Mailbox

PAGE = "/admin/second-factor/"
CODE = re.compile(r"<li><code>([a-z2-9-]{19})</code></li>")


def take(client: Client, step: str, **data: str) -> Any:
    """Send a form of the page; return the page that follows."""
    return client.post(PAGE, {"step": step} | data, follow=True)


def secret_on(response: Any) -> str:
    found = re.search(r'<code class="secret">([A-Z2-7]{32})</code>', response.content.decode())
    assert found is not None
    return found[1]


def code_for(response: Any, clock: Clock) -> str:
    """Return the code of the secret that the page shows."""
    return pyotp.TOTP(secret_on(response)).at(int(clock.now))


def enrolled(user: User) -> bool:
    user.refresh_from_db()
    return user.totp_enabled


def error_of(response: Any, step: str) -> str:
    """Return the error of the form, which the page shows."""
    text: str = response.context["forms"][step].non_field_errors()[0]
    assert text in response.content.decode()
    return text


def test_an_operator_adds_an_app_and_sees_recovery_codes_once(page: Client, admin: User, clock: Clock) -> None:
    begun = take(page, "begin")
    assert "<svg" in begun.content.decode()
    assert "data:" not in begun.content.decode()

    added = take(page, "confirm", code=code_for(begun, clock))

    codes = CODE.findall(added.content.decode())
    assert (enrolled(admin), len(set(codes))) == (True, 10)
    assert not CODE.findall(page.get(PAGE).content.decode())
    assert actors_of("totp.enabled") == [(str(admin.pk), str(admin.pk))]
    clock.next_step()
    form = {"username": admin.email, "password": PASSWORD, "second_factor": codes[0]}
    assert browser().post("/admin/login/", form).status_code == 302


def test_a_wrong_code_adds_nothing_and_the_secret_stays(page: Client, admin: User, clock: Clock) -> None:
    begun = take(page, "begin")
    refused = take(page, "confirm", code="000000")

    assert error_of(refused, "confirm").startswith("The code is wrong.")
    assert secret_on(refused) == secret_on(begun)
    assert not enrolled(admin)


def test_a_code_has_six_digits(page: Client) -> None:
    take(page, "begin")

    assert "A code has six digits." in take(page, "confirm", code="12345").content.decode()


def test_a_confirmation_that_is_sent_twice_shows_no_codes(page: Client, clock: Clock) -> None:
    code = code_for(take(page, "begin"), clock)
    take(page, "confirm", code=code)
    again = take(page, "confirm", code=code)

    assert messages_of(again)[-1] == "TOTP is already enabled."
    assert not CODE.findall(again.content.decode())
    assert RecoveryCode.objects.count() == 10


@pytest.mark.parametrize("step", ["begin", "renew"])
def test_an_old_session_must_enter_the_password_first(page: Client, admin: User, clock: Clock, step: str) -> None:
    if step == "renew":
        phone_of(admin, clock)
    prove(page, seconds_ago=PROOF_SECONDS + 60)
    before = sorted(RecoveryCode.objects.values_list("code_hash", flat=True))

    take(page, step)
    assert error_of(take(page, step, proof="Wrong-Horse-7"), step) == "The password or code is wrong."
    admin.refresh_from_db()
    assert bool(admin.totp_secret) == (step == "renew")
    assert sorted(RecoveryCode.objects.values_list("code_hash", flat=True)) == before

    assert "Wrong-Horse-7" not in take(page, step, proof=PASSWORD).content.decode()
    admin.refresh_from_db()
    assert bool(admin.totp_secret)


def test_an_old_session_does_not_show_the_secret(page: Client) -> None:
    secret = secret_on(take(page, "begin"))
    prove(page, seconds_ago=PROOF_SECONDS + 60)

    assert secret not in page.get(PAGE).content.decode()


def test_new_recovery_codes_replace_the_earlier_ones(page: Client, admin: User, clock: Clock, mailbox: Mailbox) -> None:
    earlier = phone_of(admin, clock).recovery_codes
    codes = CODE.findall(take(page, "renew").content.decode())

    assert (len(codes), set(codes) & set(earlier), RecoveryCode.objects.count()) == (10, set(), 10)
    assert actors_of("recovery_code.renewed") == [(str(admin.pk), str(admin.pk))]
    assert "New recovery codes were made" in notices_to(mailbox, admin.email)


def test_without_a_second_factor_there_are_no_recovery_codes(page: Client) -> None:
    assert messages_of(take(page, "renew")) == ["Add a second factor first."]
    assert RecoveryCode.objects.count() == 0


@pytest.mark.parametrize("kind", ["code of the app", "recovery code"])
def test_an_app_is_removed_with_the_password_and_a_code(page: Client, admin: User, clock: Clock, kind: str) -> None:
    phone = phone_of(admin, clock)
    code = phone.recovery_codes[0] if kind == "recovery code" else phone.fresh_code()

    assert messages_of(take(page, "remove", password=PASSWORD, code=code)) == ["The authenticator app was removed."]
    assert not enrolled(admin)
    assert RecoveryCode.objects.count() == 0
    assert actors_of("totp.disabled") == [(str(admin.pk), str(admin.pk))]


def test_an_app_is_not_removed_with_a_wrong_password_or_code(page: Client, admin: User, clock: Clock) -> None:
    phone = phone_of(admin, clock)
    wrong = {
        "password": ("Wrong-Horse-7", phone.fresh_code()), "code": (PASSWORD, "000000"),
        "recovery code": (PASSWORD, "abcd-efgh-jkmn-pqrs"),
    }  # fmt: skip
    for what, (password, code) in wrong.items():
        response = take(page, "remove", password=password, code=code)
        assert error_of(response, "remove") == "The password or the code is wrong.", what
    assert enrolled(admin)


def test_guesses_of_the_password_lead_to_a_lockout(page: Client, admin: User, clock: Clock) -> None:
    phone = phone_of(admin, clock)
    for _ in range(10):
        GuessAttempt(account(admin.email))

    response = take(page, "remove", password=PASSWORD, code=phone.fresh_code())
    assert error_of(response, "remove").startswith("Too many attempts.")
    assert enrolled(admin)


def test_guesses_of_the_first_code_lead_to_a_lockout(page: Client, admin: User, clock: Clock) -> None:
    code = code_for(take(page, "begin"), clock)
    for _ in range(10):
        assert error_of(take(page, "confirm", code=wrong(code)), "confirm").startswith("The code is wrong.")

    assert error_of(take(page, "confirm", code=code), "confirm").startswith("Too many attempts.")
    assert not enrolled(admin)


def test_without_redis_the_page_says_so(page: Client, admin: User, clock: Clock) -> None:
    phone = phone_of(admin, clock)
    breaker.outage = Outage()

    response = take(page, "remove", password=PASSWORD, code=phone.fresh_code())
    assert "cannot check passwords" in error_of(response, "remove")


def test_a_pending_secret_that_cannot_be_read_is_begun_again(page: Client, admin: User, clock: Clock) -> None:
    User.objects.filter(pk=admin.pk).update(totp_secret="of another SECRET_KEY")

    assert "Add an authenticator app" in page.get(PAGE).content.decode()
    take(page, "confirm", code=code_for(take(page, "begin"), clock))
    assert enrolled(admin)


def test_an_unknown_step_is_an_error_page(page: Client) -> None:
    assert page.post(PAGE, {"step": "destroy"}).status_code == 400


def test_the_page_is_not_stored(page: Client) -> None:
    assert "no-store" in page.get(PAGE)["Cache-Control"]


def test_other_users_are_asked_to_sign_in(owner: User) -> None:
    for client in (browser(), signed_in(owner)):
        for response in (client.get(PAGE), client.post(PAGE, {"step": "begin"})):
            assert response["Location"].startswith("/admin/login/")
    owner.refresh_from_db()
    assert owner.totp_secret == ""


@pytest.mark.parametrize("role", sorted(STAFF))
def test_staff_without_a_second_factor_reach_only_the_page_that_adds_one(
    required: None, role: Role, owner: User
) -> None:
    staff = make_user("staff", role)
    client = browser()
    signed = client.post("/admin/login/?next=/admin/", {"username": staff.email, "password": PASSWORD}, follow=True)
    assert (signed.request["PATH_INFO"], signed.status_code) == (PAGE, 200)
    assert "/admin/accounts/user/" not in signed.content.decode()

    for path in ("/admin/", "/admin/accounts/user/", f"/admin/accounts/user/{owner.pk}/change/", "/admin/nothing/"):
        for response in (client.get(path), client.post(path, {"username": "mine"})):
            assert (response.status_code, response["Location"]) == (302, PAGE), path
    owner.refresh_from_db()
    assert owner.username == "owner"


def test_scripts_get_the_envelope_until_there_is_a_second_factor(required: None, page: Client) -> None:
    response = page.get("/admin/nothing.json")

    assert (response.status_code, error_code(response)) == (403, "2004")


def test_after_the_enrolment_every_page_opens(required: None, page: Client, clock: Clock) -> None:
    take(page, "confirm", code=code_for(take(page, "begin"), clock))

    assert page.get("/admin/accounts/user/").status_code == 200


def test_staff_without_a_second_factor_can_log_out(required: None, page: Client) -> None:
    assert page.post("/admin/logout/").status_code == 200

    assert page.get("/admin/").headers["Location"].startswith("/admin/login/")


def test_after_a_reset_staff_must_enrol_again(required: None, admin: User, clock: Clock) -> None:
    phone_of(admin, clock)
    assert signed_in(admin).get("/admin/").status_code == 200
    User.objects.filter(pk=admin.pk).update(totp_enabled=False, totp_secret="")

    assert signed_in(admin).get("/admin/").headers["Location"] == PAGE


def test_a_hardware_wallet_is_a_second_factor(required: None, admin: User) -> None:
    User.objects.filter(pk=admin.pk).update(hardware_wallet_enabled=True)

    assert signed_in(admin).get("/admin/").status_code == 200
    assert "Hardware wallet" in signed_in(admin).get(PAGE).content.decode()


def test_where_it_is_optional_staff_may_go_without(page: Client) -> None:
    assert page.get("/admin/").status_code == 200
    assert "You have no authenticator app" in page.get(PAGE).content.decode()


def test_other_users_are_not_asked_to_enrol(required: None, owner: User) -> None:
    assert signed_in(owner).get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
