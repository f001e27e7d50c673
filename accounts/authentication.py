"""DRF authentication by access token or API key: signature, revocation, lock and rate limit, without the database."""

import re
import time
import uuid
from typing import Any

import jwt
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.api_keys import caller_of_key, refuse_expired
from accounts.callers import CallerCache
from accounts.tokens.issuing import read_access_token
from accounts.tokens.keyring import Keyring, keyring
from accounts.tokens.revocation.gates import EpochOver, admit_caller
from accounts.tokens.tickets import take_ticket, ticket_in
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import Claim, note_claim, record_of
from lucid_gateway.kernel.secrets.pasted import API_KEY
from lucid_gateway.policy.errors import BadRequest, GatewayError, TokenExpired, TokenInvalid
from lucid_gateway.policy.reasons import REASONS, Step
from lucid_gateway.policy.roles import Role
from ratelimit.addresses.floods import floods
from ratelimit.addresses.front_gate import note_observed_caller
from ratelimit.client_address import address_bucket, client_address
from ratelimit.engine.limiter import Decision
from ratelimit.throttling import TierThrottle, charge_address, record_decision

BEARER = re.compile(r"bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)

# In the order of the gates of accounts.tokens.revocation.gates.
CREDENTIAL_STEPS = (Step.IDENTITY, Step.LOCK, Step.REVOCATION, Step.EPOCH)
verified_tokens: CallerCache[tuple[Keyring, str]] = CallerCache()


class CallerAuthentication(BaseAuthentication):
    """Accepts either `Authorization: Bearer <access token>` (RFC 6750, section 2.1) or `X-API-Key: <key>`, not both.

    The handshake of a WebSocket may have a ticket in its query instead.
    """

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Return (caller, None), or None for a request without a credential; raise a GatewayError for an invalid one.

        The request is counted here, in the same round trip as the revocation check. A request without a valid
        credential counts against its address, which limits floods of bad credentials.
        """
        http_request = request._request
        record = record_of(http_request)
        header, api_key = http_request.META.get("HTTP_AUTHORIZATION"), http_request.META.get("HTTP_X_API_KEY")
        ticket = ticket_in(http_request.META.get("QUERY_STRING", "")) if record.is_handshake else None
        if header is None and api_key is None and ticket is None:
            refuse_flood(http_request)
            return None
        throttle = request.parser_context["view"].throttle_classes[0]
        try:
            caller, decision = admit(header, api_key, throttle, client_address(http_request), ticket)
        except GatewayError as error:
            record.claim = record.claim or unproved_claim(header, api_key, error)
            refuse_flood(http_request)
            record.passed(*steps_before(error))
            raise
        record.caller = caller
        note_observed_caller(record, caller)
        record.passed(*CREDENTIAL_STEPS)
        record_decision(http_request, decision)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of 401 answers (RFC 9110, section 11.6.1)."""
        return "Bearer"


def steps_before(error: GatewayError) -> tuple[Step, ...]:
    """Return the steps that a credential passed before it was refused with the error."""
    step = REASONS[error.reason].step
    return CREDENTIAL_STEPS[: CREDENTIAL_STEPS.index(step)] if step in CREDENTIAL_STEPS else ()


def admit(
    header: str | None, api_key: str | None, throttle: type[TierThrottle], address: str, ticket: str | None = None
) -> tuple[Caller, Decision]:
    """Return the caller and the limiter's decision; raise BadRequest for two credentials, else as their checks do."""
    if header is not None and api_key is not None:
        raise BadRequest("Both Authorization and X-API-Key", reason="several_credentials")
    if ticket is not None:
        if header is not None or api_key is not None:
            raise BadRequest("Both a ticket and another credential", reason="several_credentials")
        caller = caller_of_ticket(ticket)
        return caller, admit_caller(caller, throttle.limit_for(caller))
    if api_key is None:
        caller = read_caller(header or "", address)
        note_claim("token", caller.jti, caller.user_id, caller.role)
        return caller, admit_caller(caller, throttle.limit_for(caller))
    caller = caller_of_key(api_key, address=address)
    try:
        return caller, admit_caller(caller, throttle.limit_for(caller))
    except EpochOver:
        # The owner's tokens were ended, perhaps because the role changed. The key stays valid, with the current role.
        caller = caller_of_key(api_key, address=address, fresh=True)
        return caller, admit_caller(caller, throttle.limit_for(caller))


def caller_of_ticket(ticket: str) -> Caller:
    """Return the caller for whom the ticket stands; raise TokenInvalid, TokenExpired or RedisUnavailable."""
    caller = take_ticket(ticket)
    note_claim("api_key" if caller.by_api_key else "token", caller.jti, caller.user_id, caller.role)
    if caller.by_api_key:
        refuse_expired(caller)
    elif caller.expires_at <= time.time():
        raise TokenExpired()
    return caller


def unproved_claim(header: str | None, api_key: str | None, error: GatewayError) -> Claim | None:
    """Return what a refused credential says of itself: the id of an API key, or all of a token that has only expired,
    whose signature was right.
    """
    if api_key is not None and header is None:
        found = API_KEY.fullmatch(api_key)
        return Claim("api_key", found[1]) if found else None
    match = BEARER.fullmatch((header or "").strip(" \t"))
    if match is None or not isinstance(error, TokenExpired):
        return None
    claims = jwt.decode(match[1], options={"verify_signature": False})
    return Claim("token", claims.get("jti", ""), claims.get("user_id", ""), claims.get("role", ""))


def read_caller(header: str, address: str) -> Caller:
    """Return the caller of the Authorization header; raise BadRequest, TokenExpired or TokenInvalid."""
    if "," in header:
        # The server joins repeated fields with a comma, which none of our credentials contains.
        raise BadRequest("More than one Authorization header", reason="several_credentials")
    match = BEARER.fullmatch(header.strip(" \t"))
    if match is None:
        raise TokenInvalid(reason="token_malformed")
    caller = verified_caller(match[1], address)
    if caller.expires_at <= time.time():
        raise TokenExpired()
    return caller


def verified_caller(text: str, address: str) -> Caller:
    """Return the caller that the token describes; raise TokenExpired or TokenInvalid. Only valid tokens are cached.

    A signature stays valid as long as the keyring is the same. Callers check expiry and revocation on each request.
    An address that exceeds its limit gets few unknown tokens verified.
    """
    ring = keyring()
    caller = verified_tokens.get((ring, text))
    if caller is None:
        if not floods.may_check(address_bucket(address)):
            raise TokenInvalid(reason="flood_not_checked")
        caller = caller_of_claims(read_access_token(text))
        verified_tokens.put((ring, text), caller, seconds=caller.expires_at - time.time())
    return caller


def refuse_flood(request: HttpRequest) -> None:
    """Count a request without valid credentials against its address; raise RateLimited over the limit."""
    decision = charge_address(request)
    if not decision.admitted:
        raise decision.error()


def caller_of_claims(claims: dict[str, Any]) -> Caller:
    """Return the caller that the claims describe; raise TokenInvalid if a claim is missing or has the wrong type."""
    try:
        user_id, family = uuid.UUID(claims["user_id"]), uuid.UUID(claims["family"])
        if type(claims["epoch"]) is not int:
            raise TokenInvalid()
        return Caller(
            str(user_id), Role(claims["role"]), claims["jti"], str(family), claims["exp"], claims["epoch"],
            must_enrol="must_enrol" in claims,
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise TokenInvalid() from error
