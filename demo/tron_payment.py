"""The TRON payment cluster of the demo: each user's wallets and transfers, in memory."""

import secrets
import time
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any
from uuid import uuid4

from demo import tron_address
from demo.routing import Answer, Cluster, Invalid, NotFound, Problem, Request, Route, json_answer, rfc3339

GIFT_SUN = 100_000_000  # a new wallet starts with 100 TRX; 1 TRX is 1,000,000 sun
MOST_WALLETS = 100
MOST_SUN = 10**17


@dataclass
class Wallet:
    """A wallet; amounts are in sun."""

    owner: str
    name: str
    wallet_id: str = field(default_factory=lambda: str(uuid4()))
    address: str = field(default_factory=tron_address.new_address)
    currency: str = "TRX"
    balance_sun: int = GIFT_SUN
    created_at: str = field(default_factory=lambda: rfc3339(time.time()))
    transfers: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The fields that a client may see."""
        facts = asdict(self)
        del facts["owner"], facts["transfers"]
        return facts


class WalletBook:
    """The wallets of all users. Each method holds a lock, and none waits for anything while it does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wallets: dict[str, Wallet] = {}

    def open_wallet(self, *, owner: str, name: str) -> dict[str, Any]:
        """Create a wallet with 100 TRX; raise 409 if the user already has 100 wallets."""
        with self._lock:
            if len(self._owned_by(owner)) >= MOST_WALLETS:
                raise Problem(409, "LUCID_ERR_4003", f"a user has at most {MOST_WALLETS} wallets")
            wallet = Wallet(owner, name)
            self._wallets[wallet.wallet_id] = wallet
            return wallet.as_json()

    def wallets_of(self, owner: str) -> list[dict[str, Any]]:
        """A user's wallets, oldest first."""
        with self._lock:
            return [wallet.as_json() for wallet in self._owned_by(owner)]

    def wallet(self, owner: str, wallet_id: str) -> dict[str, Any]:
        """A wallet of the user; other users' wallets are not found."""
        with self._lock:
            return self._find(owner, wallet_id).as_json()

    def transfers(self, owner: str, wallet_id: str) -> list[dict[str, Any]]:
        """A wallet's transfers, newest first."""
        with self._lock:
            return self._find(owner, wallet_id).transfers[::-1]

    def transfer(self, *, owner: str, wallet_id: str, to_address: str, amount_sun: int) -> dict[str, Any]:
        """Move an amount to an address; raise 402 if it exceeds the wallet's balance."""
        with self._lock:
            wallet = self._find(owner, wallet_id)
            if wallet.balance_sun < amount_sun:
                raise Problem(402, "LUCID_ERR_4004", "insufficient balance")
            wallet.balance_sun -= amount_sun
            self._credit(to_address, amount_sun)
            record = {
                "transaction_id": secrets.token_hex(32),
                "wallet_id": wallet_id,
                "from_address": wallet.address,
                "to_address": to_address,
                "amount_sun": amount_sun,
                "balance_sun": wallet.balance_sun,
                "status": "confirmed",
                "created_at": rfc3339(time.time()),
            }
            wallet.transfers.append(record)
            return record

    def _owned_by(self, owner: str) -> list[Wallet]:
        return [wallet for wallet in self._wallets.values() if wallet.owner == owner]

    def _find(self, owner: str, wallet_id: str) -> Wallet:
        wallet = self._wallets.get(wallet_id)
        if wallet is None or wallet.owner != owner:
            raise NotFound("wallet")
        return wallet

    def _credit(self, address: str, amount_sun: int) -> None:
        for wallet in self._wallets.values():
            if wallet.address == address:
                wallet.balance_sun += amount_sun


def _owner(request: Request) -> str:
    user = request.header("X-User-Id")
    if not user:
        raise Problem(401, "LUCID_ERR_2001", "the gateway did not send X-User-Id")
    return user


def _wallet_name(payload: dict[str, Any]) -> str:
    name = payload.get("name", "wallet")
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        raise Invalid("name must be a text of 1 to 100 characters")
    return name


def _transfer_order(payload: dict[str, Any]) -> dict[str, Any]:
    to_address, amount = payload.get("to_address"), payload.get("amount_sun")
    if not tron_address.is_address(to_address):
        raise Invalid("to_address must be a TRON address")
    if type(amount) is not int or not 1 <= amount <= MOST_SUN:
        raise Invalid(f"amount_sun must be a whole number from 1 to {MOST_SUN}")
    return {"to_address": to_address, "amount_sun": amount}


def _listing(request: Request, name: str, items: list[dict[str, Any]]) -> Answer:
    page = request.page()
    return json_answer({name: page.cut(items), "pagination": page.summary(len(items))})


def tron_payment() -> Cluster:
    """The TRON payment cluster as a WSGI application, without wallets."""
    book = WalletBook()

    def list_wallets(request: Request) -> Answer:
        return _listing(request, "wallets", book.wallets_of(_owner(request)))

    def open_wallet(request: Request) -> Answer:
        owner, name = _owner(request), _wallet_name(request.json())
        return json_answer(book.open_wallet(owner=owner, name=name), 201)

    def show_wallet(request: Request, wallet_id: str) -> Answer:
        return json_answer(book.wallet(_owner(request), wallet_id))

    def list_transfers(request: Request, wallet_id: str) -> Answer:
        return _listing(request, "transactions", book.transfers(_owner(request), wallet_id))

    def transfer(request: Request, wallet_id: str) -> Answer:
        owner, order = _owner(request), _transfer_order(request.json())
        return json_answer(book.transfer(owner=owner, wallet_id=wallet_id, **order), 201)

    return Cluster(
        "tron-payment-service",
        [
            Route("GET", "/api/v1/wallets", list_wallets),
            Route("POST", "/api/v1/wallets", open_wallet),
            Route("GET", "/api/v1/wallets/{wallet_id}", show_wallet),
            Route("GET", "/api/v1/wallets/{wallet_id}/transactions", list_transfers),
            Route("POST", "/api/v1/wallets/{wallet_id}/transactions", transfer),
        ],
    )
