"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) on POSTs that the gateway executes itself.

A record in the database lets one of several attempts go on. The resource gets the key that the record has chosen, so
that even an attempt that was taken for dead makes nothing a second time (docs/decisions/0022).
"""

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self, TypeVar

from django.db import DatabaseError, IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import IdempotentRequest
from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt, encrypt
from lucid_gateway.policy.errors import GatewayError, InvalidRequest, RequestInProgress, WrongFormat

logger = logging.getLogger(__name__)
# Visible ASCII without the comma: with it the server joins two fields, of which nobody could say which one counts.
KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,255}")
REPLAYED = "Idempotent-Replayed"
LIFETIME = timedelta(hours=24)
LEASE = timedelta(seconds=30)
ANSWER_LIMIT = 1024 * 1024
TRIES = 5
M = TypeVar("M")


def valid_key(key: str) -> str:
    """Return the key; raise WrongFormat if it is none."""
    if not KEY.fullmatch(key):
        message = "Idempotency-Key is one field of 1 to 255 visible ASCII characters, no comma"
        raise unusable(WrongFormat, message, "invalid")
    return key


def unusable(kind: type[InvalidRequest], message: str, code: str) -> InvalidRequest:
    """Return the error for the header field."""
    problem = {"field": "Idempotency-Key", "message": message, "code": code}
    return kind(message, details={"validation_errors": [problem]})


def reused() -> InvalidRequest:
    """Return the error for a key that belongs to another request."""
    return unusable(InvalidRequest, "This Idempotency-Key was used for another request", "reused")


def under_way() -> RequestInProgress:
    """Return the error for a request whose first attempt has no answer yet."""
    return RequestInProgress(details={"outcome": "under_way"}, retry_after=1)


def fingerprint(request: HttpRequest, target: str, body: bytes) -> str:
    """Return the hash of what makes a request the same: method, target, content type and body."""
    content_type = request.META.get("CONTENT_TYPE") or ""
    return sha256("\n".join([request.method or "", target, content_type, ""]).encode(), body)


def sha256(*parts: bytes) -> str:
    """Return the hash, in hexadecimal."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True)
class KeptAnswer:
    """An answer in JSON: its status, its header fields and its body."""

    status: int
    headers: Mapping[str, str]
    body: str

    def sealed(self) -> str:
        """Return the answer, encrypted: it may hold personal data."""
        return encrypt(json.dumps([self.status, dict(self.headers), self.body]))

    @classmethod
    def unseal(cls, sealed: str) -> Self:
        """Return the answer that was sealed; raise RequestInProgress if SECRET_KEY has changed since."""
        try:
            return cls(*json.loads(decrypt(sealed)))
        except CannotDecrypt as error:
            details = {"outcome": "not_stored", "reason": "SECRET_KEY has changed since"}
            raise RequestInProgress(
                "The first request with this Idempotency-Key was answered already", details=details
            ) from error

    @property
    def is_final(self) -> bool:
        """Whether it is worth giving again: not if another attempt may succeed, and not if it is huge."""
        return self.status < 500 and self.status not in (408, 429, 499) and len(self.body) <= ANSWER_LIMIT


@dataclass(frozen=True)
class Execution:
    """An attempt that goes on; what it makes has the key `resource_id`."""

    record_id: str
    attempt: uuid.UUID
    resource_id: uuid.UUID

    def finish(self, answer: KeptAnswer) -> None:
        """Keep the answer if it is final; otherwise let the next attempt go on."""
        if answer.is_final:
            self.update(answer=answer.sealed())
        else:
            self.update(lease_ends_at=timezone.now())

    def update(self, **fields: Any) -> None:
        """Write the fields unless another attempt has taken over. Without the database the lease runs out."""
        try:
            IdempotentRequest.objects.filter(pk=self.record_id, attempt=self.attempt).update(**fields)
        except DatabaseError as error:
            logger.warning("idempotent request not finished", extra={"error": type(error).__name__})


def begin(*, bucket: str, user_id: str, key: str, same: str) -> Execution | KeptAnswer:
    """Return the attempt that goes on, or the answer to an earlier one with the key.

    `bucket` says whose keys they are, `same` is the request's fingerprint. Raises InvalidRequest if the key was used
    for another request, RequestInProgress while another attempt goes on.
    """
    attempt, record_id = uuid.uuid4(), sha256(f"{bucket}\n{key}".encode())
    for _ in range(TRIES):
        now = timezone.now()
        row = IdempotentRequest(
            record_id=record_id, user_id=user_id, fingerprint=same, attempt=attempt,
            lease_ends_at=now + LEASE, expires_at=now + LIFETIME,
        )  # fmt: skip
        if is_inserted(row):
            return Execution(record_id, attempt, row.resource_id)
        found = IdempotentRequest.objects.filter(pk=record_id).first()
        if found is None:
            continue
        if found.expires_at <= now:
            IdempotentRequest.objects.filter(pk=record_id, attempt=found.attempt).delete()
            continue
        return carry_on(found, attempt, same, now)
    raise under_way()


def is_inserted(row: IdempotentRequest) -> bool:
    """Insert the row; return False if there is one."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return False
    return True


def carry_on(found: IdempotentRequest, attempt: uuid.UUID, same: str, now: datetime) -> Execution | KeptAnswer:
    """Return the answer that was found, or the attempt that takes over; raise as `begin` does."""
    if found.fingerprint != same:
        raise reused()
    if found.answer:
        return KeptAnswer.unseal(found.answer)
    # A longer lease is from a clock that is far ahead of this one; whoever takes over makes nothing twice.
    if now < found.lease_ends_at <= now + 2 * LEASE:
        raise under_way()
    rows = IdempotentRequest.objects.filter(pk=found.pk, attempt=found.attempt, answer="")
    if not rows.update(attempt=attempt, lease_ends_at=now + LEASE):
        raise under_way()
    return Execution(found.record_id, attempt, found.resource_id)


def made_once(rows: Any, key: Any, make: Callable[[], M]) -> M:
    """Return the row that has the key, or what `make` makes under it; raise what `make` raises.

    Without a key there is nothing to look for. Of several at once one makes it, whatever stops the others.
    """
    if key is None:
        return make()
    if found := rows.filter(pk=key).first():
        return found  # type: ignore[no-any-return]
    try:
        return make()
    except (IntegrityError, GatewayError):
        if found := rows.filter(pk=key).first():
            return found  # type: ignore[no-any-return]
        raise
