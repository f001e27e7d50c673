"""Every error that the gateway can return: a class with its code, status and text.

    GatewayError
    ├── InvalidRequest 1001 ─ MalformedJSON 1009, RequestTooLarge 1010, ...
    ├── Unauthenticated 2001 ─ TokenExpired 2002, TokenInvalid 2003, AccountLocked 2005, ...
    ├── InsufficientPermissions 2004
    ├── RateLimited 3001 ─ QuotaExceeded 3002, TooManyAttempts 3003, BandwidthExceeded 3004,
    │   TooManyConcurrentRequests 3005
    ├── NotFound 4001, AlreadyExists 4002, OperationNotAllowed 4003 ─ RequestInProgress, UpgradeRefused,
    │   PreconditionFailed; SessionTooLarge 4005, ChunkTooLarge 4006, WrongSessionState 4007
    └── InternalError 5001, DatabaseUnavailable 5002, BadUpstreamAnswer 5003, UpstreamUnreachable 5005,
        UpstreamTimeout 5006, CircuitOpen 5007, ServiceUnavailable 5008, ClusterInMaintenance 5009

Domain code raises these errors and needs no other knowledge of HTTP; `lucid_gateway.kernel.envelope` turns them into
answers.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

# When to try again if the end of an outage is unknown.
UNAVAILABLE_SECONDS = 5


class GatewayError(Exception):
    """An error with the code, HTTP status and text that the caller sees.

    `details` is JSON, `headers` are extra header fields of the answer. `retry_after` is the number of seconds after
    which the same request may succeed, or None if that is unknown or it never will; a 503 always has one. `reason` is
    a name of `policy.reasons`, which is more precise than the code.
    """

    number: ClassVar[int] = 5001
    status: ClassVar[int] = 500
    text: ClassVar[str] = "Internal server error"
    reason: str = "internal_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message or self.text)
        self.message = message or self.text
        self.reason = reason or self.reason
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.retry_after = UNAVAILABLE_SECONDS if retry_after is None and self.status == 503 else retry_after
        if self.retry_after is not None:
            self.headers["Retry-After"] = str(self.retry_after)

    @property
    def code(self) -> str:
        """The code in the envelope, such as LUCID_ERR_1001."""
        return f"LUCID_ERR_{self.number}"


class InternalError(GatewayError):
    """A fault of the gateway itself."""


class InvalidRequest(GatewayError):
    """The request data is not valid; `details.validation_errors` lists field, message and code of each problem."""

    number, status, text, reason = 1001, 422, "Invalid request data", "invalid_data"


class BadRequest(InvalidRequest):
    """The request is not a well-formed HTTP request to this gateway (RFC 9110, section 15.5.1)."""

    status, text = 400, "Bad request"
    reason = "malformed_request"


class ClientLeft(BadRequest):
    """The client closed its connection before it received an answer; only the log shows this error."""

    status, text = 499, "Client closed the connection"
    reason = "client_left"


class RequestTimeout(BadRequest):
    """The client took too long to send its request (RFC 9110, section 15.5.9)."""

    status, text = 408, "Request timeout"
    reason = "request_timeout"


class NotAcceptable(InvalidRequest):
    """The endpoint has no representation that the client accepts (RFC 9110, section 15.5.7)."""

    status, text = 406, "Not acceptable"


class UnsupportedMediaType(InvalidRequest):
    """The endpoint does not read the media type of the body (RFC 9110, section 15.5.16)."""

    status, text = 415, "Unsupported media type"


class FieldMissing(InvalidRequest):
    """The only problem is a missing field."""

    number, text = 1002, "Required field missing"


class WrongFormat(InvalidRequest):
    """The only problem is the format of a field."""

    number, text = 1003, "Wrong field format"


class OutOfRange(InvalidRequest):
    """The only problem is a value or length out of its range."""

    number, text = 1004, "Value out of range"


class NotAUUID(InvalidRequest):
    """The only problem is an identifier that is not a UUID."""

    number, text = 1005, "Not a UUID"


class NotAnEmail(InvalidRequest):
    """The only problem is an email address."""

    number, text = 1006, "Not an email address"


class WeakPassword(InvalidRequest):
    """The only problem is a password that is too weak."""

    number, text = 1007, "Password too weak"


class InvalidDate(InvalidRequest):
    """The only problem is a date or time."""

    number, text = 1008, "Invalid date"


class MalformedJSON(InvalidRequest):
    """The body is not JSON (RFC 8259), or is JSON made to overload a parser."""

    number, status, text = 1009, 400, "Malformed JSON"


class RequestTooLarge(InvalidRequest):
    """The body exceeds the limit of its endpoint or route, `details.limit_bytes`."""

    number, status, text, reason = 1010, 413, "Request too large", "body_too_large"


class Unauthenticated(GatewayError):
    """The credentials are missing or wrong (RFC 9110, section 15.5.2)."""

    number, status, text, reason = 2001, 401, "Authentication required", "credentials_missing"


class TokenExpired(Unauthenticated):
    """The access token is past its `exp`."""

    number, text = 2002, "Token expired"
    reason = "token_expired"


class TokenInvalid(Unauthenticated):
    """The token is forged, is not an access token, or was revoked."""

    number, text = 2003, "Token invalid or revoked"
    reason = "claims_invalid"


class InsufficientPermissions(GatewayError):
    """The caller is known but lacks the permission."""

    number, status, text, reason = 2004, 403, "Insufficient permissions", "permission_missing"


class AccountLocked(Unauthenticated):
    """Staff have locked the caller's account."""

    number, text = 2005, "Account locked"
    reason = "account_locked"


class CodeExpired(Unauthenticated):
    """No login waits for this code: it was used, has expired, or ended after too many wrong guesses."""

    number, text = 2006, "Login link or code expired"
    reason = "credentials_wrong"


class CodeInvalid(Unauthenticated):
    """The login code is not the one that was mailed."""

    number, text = 2007, "Code invalid"
    reason = "credentials_wrong"


class WalletSignatureInvalid(Unauthenticated):
    """The account's hardware wallet did not sign the challenge."""

    number, text = 2008, "Hardware wallet signature invalid"
    reason = "credentials_wrong"


class SecondFactorNeeded(Unauthenticated):
    """The first factor was right; `details.required` lists the missing second factors."""

    text = "Second factor required"
    reason = "second_factor_missing"


class WrongCredentials(Unauthenticated):
    """The password or the second factor is wrong; the answer does not say which."""

    text = "Invalid credentials"
    reason = "credentials_wrong"


class RefreshTokenInvalid(Unauthenticated):
    """The refresh token is forged, expired, revoked or already used."""

    number, text = 2010, "Refresh token invalid or reused"
    reason = "refresh_token_refused"


class RateLimited(GatewayError):
    """A tier's limit is used up; `Retry-After` and `details.retry_after` say when a request will pass."""

    number, status, text, reason = 3001, 429, "Rate limit exceeded", "tier_exhausted"

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Mapping[str, Any] | None = None,
        retry_after: int,
        reason: str | None = None,
    ) -> None:
        details = {**(details or {}), "retry_after": retry_after}
        super().__init__(message, details=details, retry_after=retry_after, reason=reason)


class QuotaExceeded(RateLimited):
    """The daily quota is used up; `Retry-After` ends at the next midnight (UTC)."""

    number, text = 3002, "Quota exceeded"
    reason = "quota_exhausted"


class BandwidthExceeded(RateLimited):
    """The upload would have to wait too long for bandwidth."""

    number, text = 3004, "Bandwidth limit exceeded"
    reason = "bandwidth_exhausted"


class TooManyConcurrentRequests(RateLimited):
    """The caller has reached the limit of requests in progress."""

    number, text = 3005, "Too many concurrent requests"
    reason = "too_many_concurrent"


class TooManyAttempts(RateLimited):
    """Too many attempts to log in or to verify a code have failed."""

    number, text = 3003, "Too many failed attempts"
    reason = "too_many_attempts"


class NotFound(GatewayError):
    """The resource does not exist, or the caller may not see it."""

    number, status, text, reason = 4001, 404, "Not found", "not_found"


class AlreadyExists(GatewayError):
    """Another resource has the same unique value."""

    number, status, text, reason = 4002, 409, "Already exists", "conflict"


class OperationNotAllowed(GatewayError):
    """The path does not allow this method; the `Allow` header lists the allowed methods."""

    number, status, text, reason = 4003, 405, "Operation not allowed", "method_not_allowed"


class RequestInProgress(OperationNotAllowed):
    """A request with the same Idempotency-Key is in progress, or its outcome is unknown."""

    status, text = 409, "A request with this Idempotency-Key is in progress"
    reason = "idempotency_in_progress"


class UpgradeRefused(OperationNotAllowed):
    """The client asked for a change of protocol (RFC 9110, section 7.8)."""

    status, text = 501, "Upgrades are not supported"
    reason = "upgrade_refused"


class PreconditionFailed(OperationNotAllowed):
    """The resource has changed since the client read the version that If-Match names (RFC 9110, section 13.1.1)."""

    status, text = 412, "The resource has changed"
    reason = "conflict"


class SessionTooLarge(GatewayError):
    """The session has too little space left for the upload; `details` give the sizes in bytes."""

    number, status, text, reason = 4005, 413, "Session size limit exceeded", "conflict"


class ChunkTooLarge(GatewayError):
    """The chunk is empty or larger than `details.limit_bytes` (10 MiB)."""

    number, status, text, reason = 4006, 413, "Chunk size limit exceeded", "body_too_large"


class WrongSessionState(GatewayError):
    """The session's state, `details.status`, does not allow the operation."""

    number, status, text, reason = 4007, 409, "The session's state does not allow it", "conflict"


class BlockchainUnavailable(GatewayError):
    """The blockchain core could not be reached or could not answer."""

    number, status, text, reason = 4009, 503, "Blockchain service unavailable", "unavailable"


class DatabaseUnavailable(GatewayError):
    """The database does not answer."""

    number, status, text, reason = 5002, 503, "Database unavailable", "database_unavailable"


class BadUpstreamAnswer(GatewayError):
    """A cluster's answer is not well-formed HTTP."""

    number, status, text, reason = 5003, 502, "Bad answer from a cluster", "instance_bad_answer"


class UpstreamUnreachable(GatewayError):
    """No instance of a cluster accepts connections, so nothing was sent."""

    number, status, text, reason = 5005, 502, "Cannot reach a cluster", "instance_unreachable"
    nothing_sent = True


class UpstreamTimeout(GatewayError):
    """A cluster did not answer in time."""

    number, status, text, reason = 5006, 504, "Cluster timed out", "instance_timeout"


class CircuitOpen(GatewayError):
    """All instances of a cluster failed recently; the gateway tries none of them before `Retry-After`."""

    number, status, text, reason = 5007, 503, "Circuit open", "breaker_open"


class ServiceUnavailable(GatewayError):
    """A service that the request needs is down or not configured."""

    number, status, text, reason = 5008, 503, "Service unavailable", "unavailable"


class ClusterInMaintenance(GatewayError):
    """An operator took the cluster out of service; `Retry-After` says when to try again."""

    number, status, text, reason = 5009, 503, "Cluster in maintenance", "cluster_in_maintenance"


def all_errors() -> tuple[type[GatewayError], ...]:
    """Return the errors of this module, sorted by code and status."""
    found = [value for value in globals().values() if isinstance(value, type) and issubclass(value, GatewayError)]
    return tuple(sorted(found, key=lambda error: (error.number, error.status, error.__name__)))
