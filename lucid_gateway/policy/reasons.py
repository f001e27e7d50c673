"""The reasons why a request is refused or fails: one row per reason, with the step of the decision that it belongs to.

Clients may see a reason for clients. A reason for staff says more than a stranger may learn, such as whether a token
was forged or revoked; the client sees only the error code. `docs/reasons.md` lists all rows.
"""

from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """The steps of a decision, in their order. A request skips the steps that do not concern it."""

    CONNECTION = "connection"
    ADDRESS_RULE = "address_rule"
    PATH = "path"
    ROUTE = "route"
    IDENTITY = "identity"
    LOCK = "lock"
    REVOCATION = "revocation"
    EPOCH = "epoch"
    PERMISSION = "permission"
    RATE_LIMIT = "rate_limit"
    QUOTA = "quota"
    CONCURRENCY = "concurrency"
    BANDWIDTH = "bandwidth"
    IDEMPOTENCY = "idempotency"
    MAINTENANCE = "maintenance"
    BULKHEAD = "bulkhead"
    ATTEMPT = "attempt"
    ANSWER = "answer"


class Audience(StrEnum):
    """Who may read a reason."""

    CLIENTS = "clients"
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Reason:
    """`name` appears in logs and metrics; `text` is a sentence for people."""

    name: str
    step: Step
    text: str
    audience: Audience = Audience.CLIENTS


STAFF = Audience.STAFF
ROWS = (
    Reason("malformed_request", Step.CONNECTION, "The request is not well-formed HTTP."),
    Reason("request_timeout", Step.CONNECTION, "The client sent its request too slowly."),
    Reason("client_left", Step.ANSWER, "The client closed its connection before it received the answer."),
    Reason(
        "gateway_not_ready",
        Step.CONNECTION,
        "The gateway has not yet read its rules and keys from the database.",
        STAFF,
    ),
    Reason("address_denied", Step.ADDRESS_RULE, "An operator has denied the client's address or network."),
    Reason("address_blocked", Step.ADDRESS_RULE, "The client's address or network is temporarily blocked."),
    Reason("ambiguous_target", Step.PATH, "Two servers could read the request target in different ways."),
    Reason("upgrade_refused", Step.PATH, "The request asks for a tunnel or another protocol."),
    Reason("body_too_large", Step.PATH, "The body is larger than the endpoint or route allows."),
    Reason("unknown_path", Step.ROUTE, "No endpoint or route has this path."),
    Reason("method_not_allowed", Step.ROUTE, "The path does not allow this method."),
    Reason("credentials_missing", Step.IDENTITY, "The request has no credentials."),
    Reason("several_credentials", Step.IDENTITY, "The request has more than one credential."),
    Reason("token_malformed", Step.IDENTITY, "The Authorization header does not contain a bearer token.", STAFF),
    Reason("token_expired", Step.IDENTITY, "The access token has expired."),
    Reason("unknown_kid", Step.IDENTITY, "The token names a signing key that the gateway does not have.", STAFF),
    Reason("signature_invalid", Step.IDENTITY, "The token's signature is invalid.", STAFF),
    Reason("claims_invalid", Step.IDENTITY, "A claim of the token is missing or invalid.", STAFF),
    Reason("not_an_access_token", Step.IDENTITY, "The token is not an access token.", STAFF),
    Reason(
        "flood_not_checked", Step.IDENTITY, "The address is over its limit, so the credential was not checked.", STAFF
    ),
    Reason("api_key_unknown", Step.IDENTITY, "The API key does not exist or was revoked.", STAFF),
    Reason("api_key_expired", Step.IDENTITY, "The API key has expired."),
    Reason("api_key_suspended", Step.IDENTITY, "The API key was restored from a backup; an operator must confirm it."),
    Reason(
        "ticket_unknown", Step.IDENTITY, "The ticket for a WebSocket does not exist, has expired or was used.", STAFF
    ),
    Reason("account_deleted", Step.IDENTITY, "The account was deleted or deactivated.", STAFF),
    Reason("credentials_wrong", Step.IDENTITY, "The password, code, link or second factor was wrong or had expired."),
    Reason("second_factor_missing", Step.IDENTITY, "The account requires a second factor."),
    Reason("refresh_token_refused", Step.IDENTITY, "The refresh token is invalid, expired, revoked or already used."),
    Reason("token_revoked", Step.REVOCATION, "The token or API key was revoked.", STAFF),
    Reason("account_locked", Step.LOCK, "Staff have locked the account."),
    Reason("epoch_over", Step.EPOCH, "All of the user's tokens were revoked after this one was issued.", STAFF),
    Reason("permission_missing", Step.PERMISSION, "The caller lacks the required permission."),
    Reason("csrf_failed", Step.PERMISSION, "The form has no valid CSRF token, or came from another site."),
    Reason("tier_exhausted", Step.RATE_LIMIT, "The tier's requests per minute and its burst are used up."),
    Reason("too_many_attempts", Step.RATE_LIMIT, "Too many attempts failed."),
    Reason("quota_exhausted", Step.QUOTA, "The daily quota of requests is used up."),
    Reason("too_many_concurrent", Step.CONCURRENCY, "The caller has too many requests in progress."),
    Reason("bandwidth_exhausted", Step.BANDWIDTH, "The caller's uploads have used up their bandwidth."),
    Reason("idempotency_key_reused", Step.IDEMPOTENCY, "The Idempotency-Key was used for another request."),
    Reason("idempotency_in_progress", Step.IDEMPOTENCY, "The first request with this Idempotency-Key is in progress."),
    Reason(
        "idempotency_no_answer",
        Step.IDEMPOTENCY,
        "The first request with this Idempotency-Key left no answer that can be repeated.",
    ),
    Reason("cluster_in_maintenance", Step.MAINTENANCE, "Operators took the cluster out of service."),
    Reason("cluster_not_configured", Step.ROUTE, "The cluster has no address.", STAFF),
    Reason("cluster_busy", Step.BULKHEAD, "This worker has too many requests to the cluster in progress."),
    Reason("breaker_open", Step.ATTEMPT, "The circuit breakers of all instances are open."),
    Reason("instance_unreachable", Step.ATTEMPT, "The instance refused the connection."),
    Reason("instance_connect_timeout", Step.ATTEMPT, "The connection to the instance took too long."),
    Reason("instance_timeout", Step.ATTEMPT, "The instance did not answer in time."),
    Reason("instance_no_answer", Step.ATTEMPT, "The instance closed the connection without answering."),
    Reason("instance_bad_answer", Step.ATTEMPT, "The instance's answer is not well-formed HTTP."),
    Reason("instance_answer_cut", Step.ATTEMPT, "The instance's answer ended early."),
    Reason("invalid_data", Step.ANSWER, "The request data is not valid."),
    Reason("not_found", Step.ANSWER, "The resource does not exist, or the caller may not see it."),
    Reason("conflict", Step.ANSWER, "The state of the resource does not allow the request."),
    Reason("database_unavailable", Step.ANSWER, "The database is unavailable."),
    Reason("redis_unavailable", Step.ANSWER, "Redis is unavailable."),
    Reason("unavailable", Step.ANSWER, "A service that the request needs is unavailable."),
    Reason("internal_error", Step.ANSWER, "The gateway failed unexpectedly."),
)
REASONS = {reason.name: reason for reason in ROWS}
