"""The records of requests with an Idempotency-Key: their owner and outcome, kept in Redis for 24 hours."""

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
        """Return the answer, encrypted because it may contain personal data."""
        head = json.dumps([self.status, self.reason, self.headers])
        return encrypt(f"{head}\n{self.body.decode('latin-1')}")

    @classmethod
    def unseal(cls, sealed: str) -> Self:
        """Reverse `sealed`; raise CannotDecrypt."""
        head, _, body = decrypt(sealed).partition("\n")
        status, reason, headers = json.loads(head)
        return cls(status, reason, tuple((name, value) for name, value in headers), body.encode("latin-1"))


@dataclass(frozen=True)
class IdempotencyRecord:
    """The record of one request; `key` is its key in Redis, `owner` a random id for this attempt to claim it."""

    key: str
    fingerprint: str
    owner: str = field(default_factory=lambda: uuid.uuid4().hex)

    def claim(self, lease_seconds: float) -> FirstAnswer | None:
        """Return the answer to an earlier request with the key, or None if this request now owns the record.

        Raises InvalidRequest if the earlier request was a different one, RequestInProgress if its answer is pending,
        lost or was not stored, ServiceUnavailable without Redis.
        """
        try:
            arguments = [self.owner, self.fingerprint, round(lease_seconds * 1000), LIFETIME_MS]
            state, *details = (part.decode() for part in claim_script([self.key], arguments))
        except RedisUnavailable as error:
            if error.__cause__ is not None:  # the breaker was closed, so the claim may have reached Redis
                self.release_in_background()
            raise ServiceUnavailable("Requests with an Idempotency-Key cannot be accepted right now") from error
        if state == "claimed":
            return None
        if state == STORED:
            return unsealed(details[0])
        raise refusal(state, details)

    def finish(self, state: str, details: str = "") -> None:
        """Store the outcome of the request; without Redis it is only logged that this failed."""
        try:
            self.write(state, details)
        except RedisUnavailable:
            logger.warning("idempotency record not finished", extra={"state": state})

    def release(self) -> None:
        """Delete the claim, because nothing was sent: the next request with the key may go ahead."""
        try:
            self.write(RELEASED)
        except RedisUnavailable:
            self.release_in_background()

    def write(self, state: str, details: str = "") -> None:
        """Write the record if this request owns it; raise RedisUnavailable."""
        finish_script([self.key], [self.owner, self.fingerprint, state, details, LIFETIME_MS])

    def release_in_background(self) -> None:
        """Release the record in a thread, as soon as Redis is back."""
        threading.Thread(target=self.release_later, name="idempotency-release", daemon=True).start()

    def release_later(self) -> None:
        """Try every second for a minute."""
        for _ in range(RELEASE_TRIES):
            time.sleep(1)
            try:
                return self.write(RELEASED)
            except RedisUnavailable:
                continue


def unsealed(sealed: str) -> FirstAnswer:
    """Return the answer; raise RequestInProgress if the key that encrypted it no longer exists."""
    try:
        return FirstAnswer.unseal(sealed)
    except CannotDecrypt as error:
        raise not_stored("SECRET_KEY has changed since") from error


def refusal(state: str, details: Iterable[str]) -> InvalidRequest | RequestInProgress:
    """Return the error for a request that neither owns the record nor can get the first answer."""
    match state:
        case "conflict":
            return key_reused()
        case "under_way":
            return under_way()
        case "not_stored":
            return not_stored("the answer was too large", *details)
    message = "The outcome of the first request with this Idempotency-Key is unknown: it may have been executed"
    return RequestInProgress(message, details={"outcome": UNKNOWN}, reason="idempotency_no_answer")


def not_stored(reason: str, status: str = "") -> RequestInProgress:
    """Return the error for a repeat whose first answer was delivered but not stored."""
    details = {"outcome": NOT_STORED, "reason": reason} | ({"status": int(status)} if status else {})
    message = "The first request with this Idempotency-Key was answered already"
    return RequestInProgress(message, details=details, reason="idempotency_no_answer")
