"""POST and DELETE /auth/hardware-wallet, POST /auth/hardware-wallet/confirm: an address counts once it is proved.

Logins with a wallet are in test_verify_second_factors.py, the signatures themselves in test_tron_message.py.
"""

from typing import Any

import pytest
from redis import Redis

from accounts.factors.hardware_wallet import WALLET
from accounts.factors.table import factors_of
from accounts.models import User
from accounts.tests.conftest import (
    WALLET_ADDRESS,
    Phone,
    Wallet,
    notices_to,
    post,
    signature_of,
)
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from testing.mail import Mailbox
from testing.parallel import in_parallel

OTHER_KEY = "00" * 31 + "02"
OTHER_ADDRESS = "TDvSsdrNM5eeXNL3czpa6AxLDHZA9nwe9K"


def start(api: ApiClient, tokens: TokenPair, address: str = WALLET_ADDRESS) -> str:
    """Ask for the challenge of an address."""
    challenge: str = post(api, "hardware-wallet", tokens.access, address=address).json()["challenge"]
    return challenge


def confirm(api: ApiClient, tokens: TokenPair, signature: str) -> Any:
    return post(api, "hardware-wallet/confirm", tokens.access, signature=signature)


def remove(api: ApiClient, tokens: TokenPair, **shown: Any) -> Any:
    return api.send("delete", "/auth/hardware-wallet", shown, token=tokens.access)


def test_the_challenge_states_its_purpose_its_origin_and_its_lifetime(api: ApiClient, tokens: TokenPair) -> None:
    response = post(api, "hardware-wallet", tokens.access, address=WALLET_ADDRESS)

    assert response.status_code == 200
    assert response.json()["expires_in"] == 300
    lines = response.json()["challenge"].splitlines()
    assert lines[:2] == ["Lucid API Gateway (http://127.0.0.1:8080)", f"Register the wallet {WALLET_ADDRESS}"]
    assert start(api, tokens) != response.json()["challenge"]


def test_a_signature_registers_the_wallet_and_gives_recovery_codes(
    api: ApiClient, owner: User, tokens: TokenPair, mailbox: Mailbox
) -> None:
    response = confirm(api, tokens, signature_of(start(api, tokens)))

    assert response.status_code == 200
    assert len(response.json()["recovery_codes"]) == 10
    owner.refresh_from_db()
    assert (factors_of(owner), owner.hardware_wallet_address) == ((WALLET,), WALLET_ADDRESS)
    assert api.send("get", "/users/me", token=tokens.access).json()["hardware_wallet_enabled"] is True
    assert WALLET_ADDRESS in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="wallet.enabled", subject=str(owner.pk)).count() == 1


def test_wallets_write_the_last_byte_in_two_ways(api: ApiClient, tokens: TokenPair) -> None:
    for base in (0, 27):
        for off, status in ((0, 200), (1, 401)):
            User.objects.update(hardware_wallet_enabled=False)
            signature = signature_of(start(api, tokens))
            recovery_id = (int(signature[-2:], 16) - 27 + off) % 2
            assert confirm(api, tokens, f"{signature[:-2]}{base + recovery_id:02x}").status_code == status


def test_a_wrong_signature_registers_nothing(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = confirm(api, tokens, signature_of(start(api, tokens), OTHER_KEY))

    assert (response.status_code, error_code(response)) == (401, "2008")
    owner.refresh_from_db()
    assert (owner.hardware_wallet_enabled, owner.hardware_wallet_address) == (False, "")
    assert owner.recovery_codes.count() == 0


def test_a_challenge_allows_one_try(api: ApiClient, tokens: TokenPair) -> None:
    challenge = start(api, tokens)
    assert error_code(confirm(api, tokens, signature_of("another text"))) == "2008"

    assert error_code(confirm(api, tokens, signature_of(challenge))) == "2006"


def test_a_new_challenge_replaces_the_earlier_one(api: ApiClient, tokens: TokenPair) -> None:
    old = start(api, tokens)
    start(api, tokens)

    assert error_code(confirm(api, tokens, signature_of(old))) == "2008"


def test_a_confirmation_without_a_challenge_is_refused(api: ApiClient, tokens: TokenPair) -> None:
    assert error_code(confirm(api, tokens, signature_of("anything"))) == "2006"


def test_a_challenge_expires(api: ApiClient, tokens: TokenPair, empty_redis: Redis) -> None:
    challenge = start(api, tokens)
    (key,) = empty_redis.keys("*:wallet_registration")
    assert 290 < empty_redis.ttl(key) <= 300
    empty_redis.pexpire(key, 1)
    while empty_redis.exists(key):
        pass

    assert error_code(confirm(api, tokens, signature_of(challenge))) == "2006"


def test_a_challenge_is_valid_for_its_user_only(api: ApiClient, tokens: TokenPair, intruder: TokenPair) -> None:
    challenge = start(api, tokens)
    assert error_code(confirm(api, intruder, signature_of(challenge))) == "2006"
    start(api, intruder)

    assert error_code(confirm(api, intruder, signature_of(challenge))) == "2008"
    assert confirm(api, tokens, signature_of(challenge)).status_code == 200


def test_a_challenge_is_valid_for_its_address_only(api: ApiClient, tokens: TokenPair) -> None:
    challenge = start(api, tokens, OTHER_ADDRESS)
    assert error_code(confirm(api, tokens, signature_of(challenge))) == "2008"

    assert confirm(api, tokens, signature_of(start(api, tokens, OTHER_ADDRESS), OTHER_KEY)).status_code == 200


@pytest.mark.usefixtures("transactional_db")
def test_of_parallel_confirmations_one_succeeds(api: ApiClient, tokens: TokenPair) -> None:
    signature = signature_of(start(api, tokens))
    statuses = in_parallel(5, lambda _: confirm(ApiClient(HTTP_HOST="testserver"), tokens, signature).status_code)

    assert sorted(statuses) == [200] + [401] * 4


def test_a_second_wallet_is_refused(api: ApiClient, tokens: TokenPair, wallet: Wallet) -> None:
    response = post(api, "hardware-wallet", tokens.access, address=OTHER_ADDRESS)

    assert (response.status_code, error_code(response)) == (409, "4002")


def test_of_two_registrations_the_one_confirmed_first_stays(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    challenge = start(api, tokens)
    User.objects.filter(pk=owner.pk).update(hardware_wallet_enabled=True, hardware_wallet_address=OTHER_ADDRESS)

    assert error_code(confirm(api, tokens, signature_of(challenge))) == "4002"
    owner.refresh_from_db()
    assert owner.hardware_wallet_address == OTHER_ADDRESS


def test_a_recovery_code_removes_it(
    api: ApiClient, owner: User, tokens: TokenPair, wallet: Wallet, mailbox: Mailbox
) -> None:
    assert remove(api, tokens, recovery_code=wallet.recovery_codes[0]).status_code == 204

    owner.refresh_from_db()
    assert (owner.hardware_wallet_enabled, owner.hardware_wallet_address) == (False, "")
    assert owner.recovery_codes.count() == 0
    assert "no longer need a signature of a hardware wallet" in notices_to(mailbox, owner.email)
    assert AuditEvent.objects.filter(type="wallet.removed", subject=str(owner.pk)).count() == 1


def test_a_wrong_or_used_recovery_code_removes_nothing(
    api: ApiClient, owner: User, tokens: TokenPair, phone: Phone, wallet: Wallet
) -> None:
    api.send("delete", "/auth/totp", {"recovery_code": phone.recovery_codes[0]}, token=tokens.access)

    for code in (phone.recovery_codes[0], "abcd-efgh-jkmn-pqrs"):
        assert error_code(remove(api, tokens, recovery_code=code)) == "2007"
    owner.refresh_from_db()
    assert owner.hardware_wallet_enabled


def test_a_wallet_that_is_not_registered_cannot_be_removed(api: ApiClient, tokens: TokenPair) -> None:
    response = remove(api, tokens, recovery_code="abcd-efgh-jkmn-pqrs")

    assert (response.status_code, error_code(response)) == (404, "4001")


UNFIT = [
    ("", {}, "1002"),
    ("", {"address": ""}, "1002"),
    ("", {"address": None}, "1002"),
    ("", {"address": WALLET_ADDRESS[:-1]}, "1003"),
    ("", {"address": WALLET_ADDRESS[:-1] + "g"}, "1003"),  # the checksum does not fit
    ("", {"address": WALLET_ADDRESS + "1"}, "1004"),
    ("", {"address": "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"}, "1003"),  # another chain's
    ("", {"address": [WALLET_ADDRESS]}, "1003"),
    ("/confirm", {}, "1002"),
    ("/confirm", {"signature": "0" * 141}, "1004"),
    ("/confirm", {"signature": {}}, "1003"),
]


def test_invalid_fields_are_refused(api: ApiClient, tokens: TokenPair) -> None:
    for path, data, code in UNFIT:
        response = api.send("post", f"/auth/hardware-wallet{path}", data, token=tokens.access)
        assert (data, response.status_code, error_code(response)) == (data, 422, code)


WITHOUT_CODE = [{}, {"recovery_code": ""}, {"totp": "123456"}]


def test_removing_it_needs_a_recovery_code(api: ApiClient, tokens: TokenPair) -> None:
    for data in WITHOUT_CODE:
        assert (data, error_code(remove(api, tokens, **data))) == (data, "1002")


@pytest.mark.parametrize(("method", "path"), [("post", ""), ("delete", ""), ("post", "/confirm")])
def test_it_needs_an_access_token(api: ApiClient, method: str, path: str) -> None:
    assert error_code(api.send(method, f"/auth/hardware-wallet{path}", {})) == "2001"
