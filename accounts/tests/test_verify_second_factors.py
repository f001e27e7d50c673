"""POST /auth/verify after the mail, for accounts with second factors."""

from typing import Any

import pytest

from accounts.factors import hardware_wallet
from accounts.factors.recovery import ensure_recovery_codes
from accounts.models import IssuedToken, User
from accounts.tests.conftest import (
    WALLET_ADDRESS,
    Clock,
    Phone,
    Wallet,
    code_in,
    phone_of,
    post,
    signature_of,
    token_in,
    wrong,
)
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel

EMAIL = "owner@example.org"


def verify(api: ApiClient, email: str = EMAIL, **shown: Any) -> Any:
    return post(api, "verify", email=email, **shown)


def test_without_a_second_factor_the_answer_names_the_missing_ones(api: ApiClient, code: str, phone: Phone) -> None:
    response = verify(api, code=code)

    assert response.status_code == 401
    assert error_code(response) == "2001"
    assert response.json()["error"]["details"] == {"required": ["totp"]}
    assert not IssuedToken.objects.exists()


@pytest.mark.parametrize("kind", ["code", "token"])
def test_a_missing_second_factor_does_not_use_up_the_code_or_the_link(
    api: ApiClient, code: str, token: str, phone: Phone, kind: str
) -> None:
    first = {"code": code} if kind == "code" else {"token": token}
    for _ in range(12):
        assert error_code(verify(api, **first)) == "2001"

    assert verify(api, **first, totp=phone.fresh_code()).status_code == 200


def test_a_wrong_code_does_not_reveal_that_there_is_a_second_factor(api: ApiClient, code: str, phone: Phone) -> None:
    response = verify(api, code=wrong(code))

    assert error_code(response) == "2007"
    assert response.json()["error"]["details"] == {}


def test_code_and_totp_log_in_and_the_audit_log_records_it(api: ApiClient, code: str, phone: Phone) -> None:
    assert verify(api, code=code, totp=phone.fresh_code()).status_code == 200

    assert AuditEvent.objects.get(type="login.succeeded").details == {"method": "code+totp"}


def test_link_and_totp_log_in(api: ApiClient, token: str, phone: Phone) -> None:
    assert verify(api, token=token, totp=phone.fresh_code()).status_code == 200


def test_a_totp_code_works_once_and_the_started_login_stays(
    api: ApiClient, code: str, phone: Phone, mailbox: Mailbox
) -> None:
    totp = phone.fresh_code()
    assert verify(api, code=code, totp=totp).status_code == 200
    post(api, "login", email=EMAIL)
    second = code_in(mailbox, EMAIL, 2)

    assert error_code(verify(api, code=second, totp=totp)) == "2007"
    assert verify(api, code=second, totp=phone.fresh_code()).status_code == 200


@pytest.mark.parametrize("kind", ["code", "token"])
def test_five_wrong_second_factors_end_the_code_or_link(
    api: ApiClient, code: str, token: str, phone: Phone, kind: str
) -> None:
    first = {"code": code} if kind == "code" else {"token": token}
    totp = phone.fresh_code()
    codes = [error_code(verify(api, **first, totp=wrong(totp))) for _ in range(6)]

    assert codes == ["2007"] * 5 + ["2006"]
    assert error_code(verify(api, **first, totp=totp)) == "2006"


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_guesses_at_totp_five_are_checked(api: ApiClient, token: str, phone: Phone) -> None:
    totp = wrong(phone.fresh_code())
    codes = in_parallel(12, lambda _: error_code(verify(ApiClient(HTTP_HOST="testserver"), token=token, totp=totp)))

    assert codes.count("2007") == 5
    assert set(codes) <= {"2006", "2007", "3003"}


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_logins_with_one_recovery_code_one_succeeds(api: ApiClient, code: str, phone: Phone) -> None:
    shown = {"code": code, "recovery_code": phone.recovery_codes[0]}
    statuses = in_parallel(5, lambda _: verify(ApiClient(HTTP_HOST="testserver"), **shown).status_code)

    assert sorted(statuses) == [200] + [401] * 4


def test_a_recovery_code_replaces_all_second_factors(api: ApiClient, code: str, phone: Phone, wallet: Wallet) -> None:
    assert verify(api, code=code, recovery_code=phone.recovery_codes[0]).status_code == 200


def test_a_wrong_recovery_code_is_refused(api: ApiClient, code: str, phone: Phone) -> None:
    assert error_code(verify(api, code=code, recovery_code="abcd-efgh-jkmn-pqrs")) == "2007"


def test_a_recovery_code_of_another_user_is_refused(
    api: ApiClient, code: str, phone: Phone, node_operator: User, clock: Clock
) -> None:
    theirs = phone_of(node_operator, clock).recovery_codes[0]

    assert error_code(verify(api, code=code, recovery_code=theirs)) == "2007"


def test_a_recovery_code_without_second_factors_is_not_used_up(api: ApiClient, code: str, owner: User) -> None:
    (recovery_code, *_) = ensure_recovery_codes(owner)

    assert verify(api, code=code, recovery_code=recovery_code).status_code == 200
    assert owner.recovery_codes.filter(used_at=None).count() == 10


def test_second_factors_that_the_account_does_not_have_are_ignored(api: ApiClient, code: str) -> None:
    assert verify(api, code=code, totp="123456", signature="0x").status_code == 200


# Hardware wallets.


def required(response: Any) -> list[str]:
    """Return the second factors that the answer requires."""
    assert error_code(response) == "2001"
    factors: list[str] = response.json()["error"]["details"]["required"]
    return factors


def start(api: ApiClient, mailbox: Mailbox, count: int = 1) -> tuple[str, str]:
    """Start a login and return its code and challenge."""
    challenge: str = post(api, "login", email=EMAIL, hardware_wallet=True).json()["challenge"]
    return code_in(mailbox, EMAIL, count), challenge


def test_a_signature_of_the_challenge_logs_in(api: ApiClient, mailbox: Mailbox, wallet: Wallet) -> None:
    code, challenge = start(api, mailbox)
    assert required(verify(api, code=code)) == ["signature"]

    assert verify(api, code=code, signature=wallet.sign(challenge)).status_code == 200


def test_another_wallets_signature_is_refused(api: ApiClient, mailbox: Mailbox, wallet: Wallet) -> None:
    code, challenge = start(api, mailbox)
    response = verify(api, code=code, signature=signature_of(challenge, key="01" * 32))

    assert response.status_code == 401
    assert error_code(response) == "2008"
    assert not IssuedToken.objects.exists()


@pytest.mark.parametrize("signature", ["0x", "nonsense", "00" * 65, "0x" + "f" * 130])
def test_a_malformed_signature_is_refused(api: ApiClient, mailbox: Mailbox, wallet: Wallet, signature: str) -> None:
    code, _ = start(api, mailbox)

    assert error_code(verify(api, code=code, signature=signature)) == "2008"


def test_a_signature_is_valid_for_its_login_only(api: ApiClient, mailbox: Mailbox, wallet: Wallet) -> None:
    code, challenge = start(api, mailbox)
    signature = wallet.sign(challenge)
    assert verify(api, code=code, signature=signature).status_code == 200

    code, _ = start(api, mailbox, 2)
    assert error_code(verify(api, code=code, signature=signature)) == "2008"


def test_a_login_that_asked_for_no_challenge_cannot_be_finished_with_a_signature(
    api: ApiClient, code: str, wallet: Wallet
) -> None:
    assert error_code(verify(api, code=code, signature=wallet.sign(""))) == "2008"


def test_the_challenge_of_a_registration_is_not_accepted_in_a_login(
    api: ApiClient, mailbox: Mailbox, wallet: Wallet, node_operator: User
) -> None:
    code, _ = start(api, mailbox)
    other = hardware_wallet.start_registration(node_operator, WALLET_ADDRESS)

    assert error_code(verify(api, code=code, signature=wallet.sign(other))) == "2008"


def test_the_challenge_states_its_purpose_and_origin(api: ApiClient, owner: User) -> None:
    challenge = post(api, "login", email=EMAIL, hardware_wallet=True).json()["challenge"]

    assert challenge.splitlines()[:2] == ["Lucid API Gateway (http://127.0.0.1:8080)", "Log in"]


def test_an_account_with_both_factors_needs_both(
    api: ApiClient, mailbox: Mailbox, phone: Phone, wallet: Wallet
) -> None:
    code, challenge = start(api, mailbox)
    signature = wallet.sign(challenge)

    assert required(verify(api, code=code)) == ["signature", "totp"]
    assert required(verify(api, code=code, totp=phone.fresh_code())) == ["signature"]
    assert required(verify(api, code=code, signature=signature)) == ["totp"]
    assert verify(api, code=code, signature=signature, totp=phone.code()).status_code == 200


def test_a_wrong_signature_does_not_use_the_totp_code_up(
    api: ApiClient, mailbox: Mailbox, phone: Phone, wallet: Wallet
) -> None:
    code, challenge = start(api, mailbox)
    totp = phone.fresh_code()
    assert error_code(verify(api, code=code, totp=totp, signature=wallet.sign("else"))) == "2008"

    assert verify(api, code=code, totp=totp, signature=wallet.sign(challenge)).status_code == 200


def test_a_login_started_by_somebody_else_keeps_the_challenge_of_an_older_link(
    api: ApiClient, mailbox: Mailbox, wallet: Wallet
) -> None:
    _, challenge = start(api, mailbox)
    token = token_in(mailbox, EMAIL)
    post(api, "login", email=EMAIL, hardware_wallet=True)
    post(api, "login", email=EMAIL)

    assert verify(api, token=token, signature=wallet.sign(challenge)).status_code == 200
