"""What Redis holds of requests with an Idempotency-Key: who claimed them, and what became of them, for 24 hours."""

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from accounts.idempotency import key_reused, under_way
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt, encrypt
from lucid_gateway.policy.errors import InvalidRequest, RequestInProgress, ServiceUnavailable

logger = logging.getLogger(__name__)
LUA = Path(__file__).parent / "lua"
claim_script = RedisScript(LUA / "idempotency_claim.lua")
finish_script = RedisScript(LUA / "idempotency_finish.lua")
LIFETIME_MS = 24 * 60 * 60 * 1000
RELEASE_TRIES = 60
STORED, NOT_STORED, UNKNOWN, RELEASED = "stored", "not_stored", "unknown", "released"


@dataclass(frozen=True)
class FirstAnswer:
    """A whole answer of a cluster: its status, reason, fields in order, and undecoded body."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def sealed(self) -> str:
        """Return the answer, encrypted: it may tell of somebody's wallets."""
        head = json.dumps([self.status, self.reason, self.headers])
        return encrypt(f"{head}\n{self.body.decode('latin-1')}")

    @classmethod
    def unseal(cls, sealed: str) -> Self:
        """Return the answer that was sealed; raise CannotDecrypt."""
        head, _, body = decrypt(sealed).partition("\n")
        status, reason, headers = json.loads(head)
        return cls(status, reason, tuple((name, value) for name, value in headers), body.encode("latin-1"))


@dataclass(frozen=True)
class Record:
    """The record of one request, which is its `owner`'s if the claim succeeds; `key` is the key in Redis."""

    key: str
    fingerprint: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)

    def claim(self, lease_seconds: float) -> FirstAnswer | None:
        """Return the answer to an earlier request with the key, or None: then this one goes on, and no other.

        Raises InvalidRequest if the key was used for another request, RequestInProgress if that request has no answer
        yet or never gets one, ServiceUnavailable without Redis.
        """
        try:
            arguments = [self.owner, self.fingerprint, round(lease_seconds * 1000), LIFETIME_MS]
            state, *told = (part.decode() for part in claim_script([self.key], arguments))
        except RedisUnavailable as error:
            if error.__cause__ is not None:  # the breaker was closed: Redis may have got the claim
                self.keep_releasing()
            raise ServiceUnavailable("Requests with an Idempotency-Key cannot be taken just now") from error
        if state == "claimed":
            return None
        if state == STORED:
            return opened(told[0])
        raise refusal(state, told)

    def finish(self, state: str, told: str = "") -> None:
        """Write down what became of the request; without Redis nobody will know."""
        try:
            self.write(state, told)
        except RedisUnavailable:
            logger.warning("idempotency record not finished", extra={"state": state})

    def release(self) -> None:
        """Let the next request go on: nothing was sent for this one."""
        try:
            self.write(RELEASED)
        except RedisUnavailable:
            self.keep_releasing()

    def write(self, state: str, told: str = "") -> None:
        """Run the script; raise RedisUnavailable."""
        finish_script([self.key], [self.owner, self.fingerprint, state, told, LIFETIME_MS])

    def keep_releasing(self) -> None:
        """Release the record beside the requests, as soon as Redis is back."""
        threading.Thread(target=self.release_later, name="idempotency-release", daemon=True).start()

    def release_later(self) -> None:
        """Try each second for a minute."""
        for _ in range(RELEASE_TRIES):
            time.sleep(1)
            try:
                return self.write(RELEASED)
            except RedisUnavailable:
                continue


def opened(sealed: str) -> FirstAnswer:
    """Return the answer; raise RequestInProgress if it was encrypted under a key that is gone."""
    try:
        return FirstAnswer.unseal(sealed)
    except CannotDecrypt as error:
        raise not_stored("SECRET_KEY has changed since") from error


def refusal(state: str, told: Iterable[str]) -> InvalidRequest | RequestInProgress:
    """Return the error for a request that neither goes on nor gets an earlier one's answer."""
    match state:
        case "conflict":
            return key_reused()
        case "under_way":
            return under_way()
        case "not_stored":
            return not_stored("the answer was too large", *told)
    message = "Nobody knows what became of the first request with this Idempotency-Key: it may have been executed"
    return RequestInProgress(message, details={"outcome": UNKNOWN})


def not_stored(reason: str, status: str = "") -> RequestInProgress:
    """Return the error for a request whose first answer was given, but cannot be given again."""
    details = {"outcome": NOT_STORED, "reason": reason} | ({"status": int(status)} if status else {})
    return RequestInProgress("The first request with this Idempotency-Key was answered already", details=details)
