"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) on POSTs that the gateway executes itself.

A record in the database lets one of several attempts execute. It also chooses the primary key of the new resource, so
that an attempt that was wrongly assumed dead cannot create a second one (docs/decisions/0022).
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
# Visible ASCII without the comma: the server joins repeated fields with a comma, so two keys would look like one.
KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,255}")
REPLAYED = "Idempotent-Replayed"
LIFETIME = timedelta(hours=24)
LEASE = timedelta(seconds=30)
ANSWER_LIMIT = 1024 * 1024
MAX_TRIES = 5
M = TypeVar("M")


def valid_key(key: str) -> str:
    """Return the key unchanged; raise WrongFormat if it is invalid."""
    if not KEY.fullmatch(key):
        message = "Idempotency-Key must be one field of 1 to 255 visible ASCII characters, without commas"
        raise header_error(WrongFormat, message, "invalid")
    return key


def header_error(kind: type[InvalidRequest], message: str, code: str, *, reason: str | None = None) -> InvalidRequest:
    problem = {"field": "Idempotency-Key", "message": message, "code": code}
    return kind(message, details={"validation_errors": [problem]}, reason=reason)


def key_reused() -> InvalidRequest:
    """Return the error for a key that belongs to another request."""
    message = "This Idempotency-Key was already used for another request"
    return header_error(InvalidRequest, message, "reused", reason="idempotency_key_reused")


def under_way() -> RequestInProgress:
    """Return the error for a request whose first attempt has no answer yet."""
    return RequestInProgress(details={"outcome": "under_way"}, retry_after=1)


def fingerprint_of(request: HttpRequest, target: str, body: bytes) -> str:
    """Return the hash of what identifies a request: method, target, content type and body."""
    content_type = request.META.get("CONTENT_TYPE") or ""
    return sha256("\n".join([request.method or "", target, content_type, ""]).encode(), body)


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True)
class KeptAnswer:
    """A stored answer; its body is JSON."""

    status: int
    headers: Mapping[str, str]
    body: str

    def sealed(self) -> str:
        """Return the answer, encrypted because it may contain personal data."""
        return encrypt(json.dumps([self.status, dict(self.headers), self.body]))

    @classmethod
    def unseal(cls, sealed: str) -> Self:
        """Return the answer that was encrypted; raise RequestInProgress if SECRET_KEY has changed since."""
        try:
            return cls(*json.loads(decrypt(sealed)))
        except CannotDecrypt as error:
            details = {"outcome": "not_stored", "reason": "SECRET_KEY has changed since"}
            message = "The first request with this Idempotency-Key has already been answered"
            raise RequestInProgress(message, details=details, reason="idempotency_no_answer") from error

    @property
    def is_final(self) -> bool:
        """Whether to replay the answer: not if another attempt may succeed, and not if it exceeds ANSWER_LIMIT."""
        return self.status < 500 and self.status not in (408, 429, 499) and len(self.body) <= ANSWER_LIMIT


@dataclass(frozen=True)
class Execution:
    """An attempt that may execute; the resource it creates has the primary key `resource_id`."""

    record_id: str
    attempt: uuid.UUID
    resource_id: uuid.UUID

    def finish(self, answer: KeptAnswer) -> None:
        """Store the answer if it is final; otherwise end the lease, so that the next attempt may execute."""
        if answer.is_final:
            self.update(answer=answer.sealed())
        else:
            self.update(lease_ends_at=timezone.now())

    def update(self, **fields: Any) -> None:
        """Write the fields unless another attempt has taken over. Without the database, the lease expires by itself."""
        try:
            IdempotentRequest.objects.filter(pk=self.record_id, attempt=self.attempt).update(**fields)
        except DatabaseError as error:
            logger.warning("idempotent request not finished", extra={"error": type(error).__name__})


def begin(*, bucket: str, user_id: str, key: str, fingerprint: str) -> Execution | KeptAnswer:
    """Return an attempt that may execute, or the stored answer to an earlier request with the key.

    `bucket` identifies the owner of the key. Raises InvalidRequest if the key was used for another request, and
    RequestInProgress while another attempt executes.
    """
    attempt, record_id = uuid.uuid4(), sha256(f"{bucket}\n{key}".encode())
    for _ in range(MAX_TRIES):
        now = timezone.now()
        row = IdempotentRequest(
            record_id=record_id, user_id=user_id, fingerprint=fingerprint, attempt=attempt,
            lease_ends_at=now + LEASE, expires_at=now + LIFETIME,
        )  # fmt: skip
        if insert(row):
            return Execution(record_id, attempt, row.resource_id)
        found = IdempotentRequest.objects.filter(pk=record_id).first()
        if found is None:
            continue
        if found.expires_at <= now:
            IdempotentRequest.objects.filter(pk=record_id, attempt=found.attempt).delete()
            continue
        return replay_or_resume(found, attempt, fingerprint, now)
    raise under_way()


def insert(row: IdempotentRequest) -> bool:
    """Insert the row; return False if a row with its key exists."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        return False
    return True


def replay_or_resume(
    found: IdempotentRequest, attempt: uuid.UUID, fingerprint: str, now: datetime
) -> Execution | KeptAnswer:
    """Return the stored answer, or the attempt that takes over; raise as `begin` does."""
    if found.fingerprint != fingerprint:
        raise key_reused()
    if found.answer:
        return KeptAnswer.unseal(found.answer)
    # A longer lease comes from a clock that is far ahead. Taking over is safe: `resource_id` prevents duplicates.
    if now < found.lease_ends_at <= now + 2 * LEASE:
        raise under_way()
    rows = IdempotentRequest.objects.filter(pk=found.pk, attempt=found.attempt, answer="")
    if not rows.update(attempt=attempt, lease_ends_at=now + LEASE):
        raise under_way()
    return Execution(found.record_id, attempt, found.resource_id)


def create_once(rows: Any, key: Any, create: Callable[[], M]) -> M:
    """Return the row with the primary key, or else the result of `create`; raise what `create` raises.

    The key None looks for no row. Among concurrent calls one creates the row, and the others return it even if a
    limit stopped them.
    """
    if key is None:
        return create()
    if found := rows.filter(pk=key).first():
        return found  # type: ignore[no-any-return]
    try:
        return create()
    except (IntegrityError, GatewayError):
        if found := rows.filter(pk=key).first():
            return found  # type: ignore[no-any-return]
        raise
