from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from demo import tron_address
from demo.tron_payment import GIFT_SUN


def _user() -> dict[str, str]:
    return {"X-User-Id": str(uuid4())}


def _wallet(payments: httpx.Client, user: dict[str, str]) -> dict[str, Any]:
    wallet: dict[str, Any] = payments.post("/api/v1/wallets", json={"name": "mine"}, headers=user).json()
    return wallet


def _send(
    payments: httpx.Client, user: dict[str, str], wallet: dict[str, Any], amount: object, to: object = None
) -> httpx.Response:
    order = {"to_address": to or tron_address.new_address(), "amount_sun": amount}
    return payments.post(f"/api/v1/wallets/{wallet['wallet_id']}/transactions", json=order, headers=user)


def test_a_new_wallet_has_a_tron_address_and_a_gift(payments: httpx.Client) -> None:
    wallet = _wallet(payments, _user())
    assert wallet["address"].startswith("T")
    assert tron_address.is_address(wallet["address"])
    assert wallet["balance_sun"] == GIFT_SUN
    assert "owner" not in wallet


def test_a_user_sees_only_their_own_wallets(payments: httpx.Client) -> None:
    owner, other = _user(), _user()
    wallet = _wallet(payments, owner)
    listed = payments.get("/api/v1/wallets", headers=owner).json()
    assert [row["wallet_id"] for row in listed["wallets"]] == [wallet["wallet_id"]]
    assert payments.get("/api/v1/wallets", headers=other).json()["wallets"] == []
    assert payments.get(f"/api/v1/wallets/{wallet['wallet_id']}", headers=other).status_code == 404
    assert _send(payments, other, wallet, 1).status_code == 404


def test_a_transfer_moves_the_amount_between_wallets(payments: httpx.Client) -> None:
    giver, taker = _user(), _user()
    source, target = _wallet(payments, giver), _wallet(payments, taker)
    answer = _send(payments, giver, source, 40_000_000, target["address"])
    assert (answer.status_code, answer.json()["balance_sun"]) == (201, GIFT_SUN - 40_000_000)
    received = payments.get(f"/api/v1/wallets/{target['wallet_id']}", headers=taker).json()
    assert received["balance_sun"] == GIFT_SUN + 40_000_000


def test_a_transfer_over_the_balance_gets_402_and_moves_nothing(payments: httpx.Client) -> None:
    user = _user()
    wallet = _wallet(payments, user)
    answer = _send(payments, user, wallet, GIFT_SUN + 1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "LUCID_ERR_4004")
    path = f"/api/v1/wallets/{wallet['wallet_id']}"
    assert payments.get(path, headers=user).json()["balance_sun"] == GIFT_SUN
    assert payments.get(f"{path}/transactions", headers=user).json()["transactions"] == []


def test_parallel_transfers_never_exceed_the_balance(payments: httpx.Client) -> None:
    user = _user()
    wallet = _wallet(payments, user)
    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda _: _send(payments, user, wallet, GIFT_SUN // 4).status_code, range(8))
    assert sorted(answers) == [201] * 4 + [402] * 4


@pytest.mark.parametrize(("amount", "to"), [(0, None), (-5, None), (1.5, None), (True, None), (5, "Tnope")])
def test_an_invalid_transfer_is_refused(payments: httpx.Client, amount: object, to: str) -> None:
    user = _user()
    assert _send(payments, user, _wallet(payments, user), amount, to).status_code == 422


def test_a_request_without_a_user_is_refused(payments: httpx.Client) -> None:
    assert payments.get("/api/v1/wallets").status_code == 401


def test_an_address_with_one_wrong_letter_is_invalid() -> None:
    real = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"  # the USDT contract, known to every TRON wallet
    assert tron_address.is_address(real)
    assert not tron_address.is_address(real[:-1] + "u")
    assert not tron_address.is_address(real + "t")
    assert not tron_address.is_address(None)
