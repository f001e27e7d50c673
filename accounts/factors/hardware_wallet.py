"""Hardware wallets: the user proves an address when they register it; then it signs the challenge of each login."""

import secrets
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from redis import Redis

from accounts.factors.factor import SecondFactor
from accounts.factors.recovery import ensure_recovery_codes
from accounts.mail import send_notice
from accounts.models import User
from lucid_gateway.audit.events import Changes, record
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import AlreadyExists, CodeExpired, WalletSignatureInvalid

LIFETIME_SECONDS = 300


def new_challenge(purpose: str) -> str:
    """Return a text to sign that states its purpose and occurs once."""
    return f"Lucid API Gateway ({settings.ENV.PUBLIC_BASE_URL})\n{purpose}\nNonce: {secrets.token_hex(16)}"


def signed_by(address: str, message: str, signature: str) -> bool:
    """Return whether the wallet of the address signed the message (TRON message V2)."""
    # On first use: the libraries of signatures take more than 1 MiB of a worker, and few users have a wallet.
    from accounts.factors.tron_message import InvalidSignature, signer  # noqa: PLC0415

    try:
        return bool(message) and signer(message, signature) == address
    except InvalidSignature:
        return False


def start_registration(user: User, address: str) -> str:
    """Return the challenge that the wallet must sign; raise AlreadyExists."""
    if user.hardware_wallet_enabled:
        raise AlreadyExists("A hardware wallet is already registered")
    challenge = new_challenge(f"Register the wallet {address}")

    def store(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=True)
        pipeline.hset(keys.wallet_registration(user.pk), mapping={"address": address, "challenge": challenge})
        pipeline.expire(keys.wallet_registration(user.pk), LIFETIME_SECONDS)
        pipeline.execute()

    redis_call(keys.wallet_registration(user.pk), store)
    return challenge


def confirm_registration(user: User, signature: str) -> list[str]:
    """Register the address whose challenge was signed; return new recovery codes if the account had none.

    Each challenge allows one try. Raises CodeExpired if there is none, WalletSignatureInvalid or AlreadyExists.
    """

    def take(redis: Redis) -> dict[bytes, bytes]:
        pipeline = redis.pipeline(transaction=True)
        pipeline.hgetall(keys.wallet_registration(user.pk))
        pipeline.delete(keys.wallet_registration(user.pk))
        found: dict[bytes, bytes] = pipeline.execute()[0]
        return found

    waiting = redis_call(keys.wallet_registration(user.pk), take)
    if not waiting:
        raise CodeExpired("No wallet registration was started, or it has expired")
    address = waiting[b"address"].decode()
    if not signed_by(address, waiting[b"challenge"].decode(), signature):
        raise WalletSignatureInvalid()
    free = User.objects.filter(pk=user.pk, hardware_wallet_enabled=False)
    if not free.update(hardware_wallet_enabled=True, hardware_wallet_address=address):
        raise AlreadyExists("A hardware wallet is already registered")
    now_on: Changes = {"hardware_wallet_enabled": [False, True], "hardware_wallet_address": ["", address]}
    record("wallet.enabled", subject=user, changes=now_on, address=address)
    send_notice(user, f"Logins need the signature of the hardware wallet {address} from now on.")
    return ensure_recovery_codes(user)


class WalletFactor(SecondFactor):
    """The signature of a hardware wallet."""

    name, kind, enabled = "signature", "wallet", "hardware_wallet_enabled"
    cleared_columns: ClassVar[Mapping[str, Any]] = {"hardware_wallet_enabled": False, "hardware_wallet_address": ""}
    wrong_proof, absent_message = WalletSignatureInvalid, "No hardware wallet is registered"
    signs = True

    def enrol(self, user: User, **data: str) -> dict[str, Any]:
        """Return the challenge for the wallet of `address`."""
        return {"challenge": start_registration(user, data["address"]), "expires_in": LIFETIME_SECONDS}

    def confirm(self, user: User, proof: str) -> list[str]:
        """Register the address whose challenge was signed."""
        return confirm_registration(user, proof)

    def prove(self, user: User, proof: str, challenge: str) -> bool:
        """Return whether the account's wallet signed the challenge."""
        return signed_by(user.hardware_wallet_address, challenge, proof)

    def announce_removal(self, user: User, changes: Changes) -> None:
        record("wallet.removed", subject=user, changes=changes)
        send_notice(user, "Logins no longer need a signature of a hardware wallet.")


WALLET = WalletFactor()
