"""Started logins, in Redis: code and link expire after five minutes and work once; five wrong guesses end them."""

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
    """The proof that somebody reads the mail: its `code`, or the token of its `link`."""

    kind: Literal["code", "link"]
    text: str


def logins_key(email: str) -> str:
    """Return the key of the started logins of an email, whether it has an account or not."""
    return keys.logins(keyed_hash("email", email))


def proof_hash(email: str, proof: Proof) -> str:
    """Return the hash of a mailed proof; for codes it is keyed, so that trying all codes does not reveal one."""
    return secret_hash(proof.text) if proof.kind == "link" else keyed_hash("code", f"{email} {proof.text}")


def start(email: str, *, code: str, token: str, wallet_challenge: str, decoy: bool = False) -> None:
    """Start a login that the code or the token of the link can finish; raise TooManyAttempts.

    A `decoy` costs the same work and changes nothing for the email: it is stored under a key that nobody reads.
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
    """A right guess: `use` finishes the login, `refund` does not count the guess."""

    def __init__(self, email: str, proof: Proof) -> None:
        """Count the guess, then check it; raise CodeInvalid, or CodeExpired if there is no login to guess at."""
        self.email, self.kind = email, proof.kind
        self.hash = proof_hash(email, proof)
        verdict, wallet_challenge = guess_script([logins_key(email)], [proof.kind, self.hash, MAX_GUESSES])
        if verdict < 0:
            raise CodeExpired()
        if verdict == 0:
            raise CodeInvalid()
        self.wallet_challenge: str = wallet_challenge.decode()

    def use(self) -> None:
        """End all started logins of the email; raise CodeExpired if another request ended them first."""
        if not settle_script([logins_key(self.email)], [self.kind, self.hash, "use"]):
            raise CodeExpired()

    def refund(self) -> None:
        """Do not count the guess."""
        settle_script([logins_key(self.email)], [self.kind, self.hash, "refund"])


def take_wallet_challenge(email: str) -> str:
    """Return the newest challenge for the wallet, which works once; empty if there is none."""

    def take(redis: Redis) -> bytes:
        pipeline = redis.pipeline(transaction=True)
        pipeline.hget(logins_key(email), "wallet")
        pipeline.hdel(logins_key(email), "wallet")
        return pipeline.execute()[0] or b""

    return redis_call(logins_key(email), take).decode()
