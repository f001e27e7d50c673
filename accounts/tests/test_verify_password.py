"""POST /auth/verify with the password: it needs a second factor, and the answer hides which part was wrong."""

from typing import Any

import pytest

from accounts.login import challenges
from accounts.models import IssuedToken, User
from accounts.tests.conftest import Phone, Wallet, post, wrong
from accounts.users.locks import lock_user
from conftest import PASSWORD, ApiClient, error_code

EMAIL = "owner@example.org"


def verify(api: ApiClient, email: str = EMAIL, **shown: Any) -> Any:
    return post(api, "verify", email=email, **{"password": PASSWORD} | shown)


def told(response: Any) -> tuple[int, str, str, str]:
    """Return the answer without the time and the id of the request."""
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"], repr(error["details"])


def test_password_and_totp_log_in_without_a_mail(api: ApiClient, phone: Phone) -> None:
    response = verify(api, totp=phone.fresh_code())

    assert response.status_code == 200
    assert response.json()["user"]["totp_enabled"] is True


def test_a_password_does_not_prove_the_email(api: ApiClient, phone: Phone) -> None:
    assert verify(api, totp=phone.fresh_code()).json()["user"]["email_verified"] is False


def test_password_and_recovery_code_log_in(api: ApiClient, phone: Phone) -> None:
    assert verify(api, recovery_code=phone.recovery_codes[0]).status_code == 200

    assert error_code(verify(api, recovery_code=phone.recovery_codes[0])) == "2001"


def test_the_answer_does_not_say_which_part_was_wrong(
    api: ApiClient, owner: User, phone: Phone, node_operator: User, super_admin: User
) -> None:
    User.objects.filter(pk=super_admin.pk).update(is_active=False)
    code = phone.fresh_code()

    answers = {
        told(verify(api, totp=wrong(code))),
        told(verify(api, password="Wrong-Horse-7", totp=code)),
        told(verify(api, password="Wrong-Horse-7", totp=wrong(code))),
        told(verify(api, recovery_code="abcd-efgh-jkmn-pqrs")),
        told(verify(api, signature="0" * 130)),  # not the factor that the account asks for
        told(verify(api, node_operator.email, totp=code)),  # has no second factor
        told(verify(api, super_admin.email, totp=code)),  # was deactivated
        told(verify(api, "nobody@example.org", totp=code)),
    }

    assert answers == {(401, "LUCID_ERR_2001", "Invalid credentials", "{}")}
    assert not IssuedToken.objects.exists()


def test_a_password_is_refused_if_the_account_has_no_second_factor(api: ApiClient, owner: User) -> None:
    assert error_code(verify(api, totp="123456")) == "2001"
    assert error_code(verify(api, recovery_code="abcd-efgh-jkmn-pqrs")) == "2001"


def test_a_wrong_password_does_not_use_the_totp_code_up(api: ApiClient, phone: Phone) -> None:
    code = phone.fresh_code()
    verify(api, password="Wrong-Horse-7", totp=code)

    assert verify(api, totp=code).status_code == 200


def test_a_wrong_password_does_not_use_the_recovery_code_up(api: ApiClient, phone: Phone) -> None:
    verify(api, password="Wrong-Horse-7", recovery_code=phone.recovery_codes[0])

    assert verify(api, recovery_code=phone.recovery_codes[0]).status_code == 200


def test_the_password_is_used_exactly_as_typed(api: ApiClient, phone: Phone) -> None:
    assert error_code(verify(api, password=f" {PASSWORD}", totp=phone.fresh_code())) == "2001"


def test_only_complete_credentials_reveal_that_the_account_is_locked(api: ApiClient, owner: User, phone: Phone) -> None:
    lock_user(owner, reason="", by="")
    code = phone.fresh_code()

    assert error_code(verify(api, password="Wrong-Horse-7", totp=code)) == "2001"
    assert error_code(verify(api, totp=code)) == "2005"
    assert not IssuedToken.objects.exists()


def test_password_and_signature_of_the_challenge_log_in(api: ApiClient, wallet: Wallet) -> None:
    challenge = post(api, "login", email=EMAIL, hardware_wallet=True).json()["challenge"]

    assert verify(api, signature=wallet.sign(challenge)).status_code == 200


def test_a_challenge_allows_one_try_with_a_password(api: ApiClient, wallet: Wallet) -> None:
    challenge = post(api, "login", email=EMAIL, hardware_wallet=True).json()["challenge"]
    assert error_code(verify(api, signature=wallet.sign("another text"))) == "2001"

    assert error_code(verify(api, signature=wallet.sign(challenge))) == "2001"


def test_a_wrong_password_does_not_use_the_challenge_up(api: ApiClient, wallet: Wallet) -> None:
    challenge = post(api, "login", email=EMAIL, hardware_wallet=True).json()["challenge"]
    verify(api, password="Wrong-Horse-7", signature=wallet.sign(challenge))

    assert verify(api, signature=wallet.sign(challenge)).status_code == 200


@pytest.mark.parametrize("email", [EMAIL, "nobody@example.org"])
def test_known_and_unknown_addresses_cost_one_hash_each(
    api: ApiClient, phone: Phone, monkeypatch: pytest.MonkeyPatch, email: str
) -> None:
    hashed: list[tuple[str, str]] = []

    def note(password: str, encoded: str) -> tuple[bool, bool]:
        hashed.append((password, encoded.rsplit("$", 2)[0]))  # without salt and hash: algorithm and parameters
        return False, False

    monkeypatch.setattr("accounts.login.passwords.verify_password", note)
    verify(api, email, totp="123456")

    known = User.objects.get(email=EMAIL).password
    assert hashed == [(PASSWORD, known.rsplit("$", 2)[0])]


def test_a_login_by_password_leaves_a_started_login_alone(api: ApiClient, code: str, phone: Phone) -> None:
    assert verify(api, totp=phone.fresh_code()).status_code == 200

    shown = {"email": EMAIL, "code": code, "totp": phone.fresh_code()}
    assert post(api, "verify", **shown).status_code == 200
    assert challenges.MAX_GUESSES == 5
