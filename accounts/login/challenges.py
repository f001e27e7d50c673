"""Logins that wait for their code or link: in Redis, for five minutes, five guesses and one use each."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from django.conf import settings
from redis import Redis

from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.secrets.digests import keyed_hash, secret_hash
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import CodeExpired, CodeInvalid, TooManyAttempts

LIFETIME_SECONDS = 300
MAX_GUESSES = 5
STARTS_WINDOW_SECONDS = 300
LUA = Path(__file__).parent
start_script = RedisScript(LUA / "login_start.lua")
guess_script = RedisScript(LUA / "login_guess.lua")
settle_script = RedisScript(LUA / "login_settle.lua")


@dataclass(frozen=True)
class Proof:
    """What is shown of the mail: its `code` or the token of its `link`."""

    kind: Literal["code", "link"]
    text: str


def logins_key(email: str) -> str:
    """Return the key of the logins that wait for this address, whether it has an account or not."""
    return keys.logins(keyed_hash("email", email))


def proof_hash(email: str, proof: Proof) -> str:
    """Return the hash of what was mailed: the code's cannot be found out by trying all codes."""
    return secret_hash(proof.text) if proof.kind == "link" else keyed_hash("code", f"{email} {proof.text}")


def start(email: str, *, code: str, token: str, wallet_challenge: str, decoy: bool = False) -> None:
    """Let a login wait for the code and the link's token; raise TooManyAttempts.

    One that is not `in_earnest` costs the same and touches nothing of the address's: it waits where nobody looks.
    """
    email_hash = keyed_hash("email", email)
    hashes = [proof_hash(email, Proof("code", code)), proof_hash(email, Proof("link", token))]
    limits = [LIFETIME_SECONDS, settings.ENV.LOGINS_PER_ACCOUNT, STARTS_WINDOW_SECONDS]
    waiting = keys.decoy_logins(email_hash, secrets.token_hex(16)) if decoy else keys.logins(email_hash)
    wait: int = start_script(
        [waiting, keys.login_starts(email_hash)], [*hashes, wallet_challenge, *limits, int(not decoy)]
    )
    if wait:
        raise TooManyAttempts(retry_after=wait)


class Guess:
    """A guess that was right; `use` the login up with it, or `refund` what was no guess after all."""

    def __init__(self, email: str, proof: Proof) -> None:
        """Charge the guess and look at it; raise CodeInvalid, or CodeExpired when there is nothing to guess at."""
        self.email, self.kind = email, proof.kind
        self.hash = proof_hash(email, proof)
        verdict, wallet_challenge = guess_script([logins_key(email)], [proof.kind, self.hash, MAX_GUESSES])
        if verdict < 0:
            raise CodeExpired()
        if verdict == 0:
            raise CodeInvalid()
        self.wallet_challenge: str = wallet_challenge.decode()

    def use(self) -> None:
        """Use up all logins that wait for the address; raise CodeExpired if somebody else did."""
        if not settle_script([logins_key(self.email)], [self.kind, self.hash, "use"]):
            raise CodeExpired()

    def refund(self) -> None:
        """Give the guess back."""
        settle_script([logins_key(self.email)], [self.kind, self.hash, "return"])


def take_wallet_challenge(email: str) -> str:
    """Return the newest challenge for the wallet and use it up; empty if there is none."""

    def take(redis: Redis) -> bytes:
        pipeline = redis.pipeline(transaction=True)
        pipeline.hget(logins_key(email), "wallet")
        pipeline.hdel(logins_key(email), "wallet")
        return pipeline.execute()[0] or b""

    return redis_call(take).decode()
