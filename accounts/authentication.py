"""DRF authentication by access token or API key: signature, revocation, lock and limit, without the database."""

import re
import time
import uuid
from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from accounts.api_keys import caller_of_key
from accounts.callers import RememberedCallers
from accounts.tokens.issuing import read_access_token
from accounts.tokens.keyring import Keyring, keyring
from accounts.tokens.revocation.gates import EpochOver, admit_caller
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import BadRequest, GatewayError, TokenExpired, TokenInvalid
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.roles import Role
from ratelimit.addresses.floods import floods
from ratelimit.client_address import address_bucket, client_address
from ratelimit.engine.limiter import Decision
from ratelimit.throttling import TierThrottle, charge_address, record_decision

BEARER = re.compile(r"bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)

verified: RememberedCallers[tuple[Keyring, str]] = RememberedCallers()


class CallerAuthentication(BaseAuthentication):
    """Accepts `Authorization: Bearer <access token>` (RFC 6750, section 2.1) or `X-API-Key: <key>`, one of the two."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Return (caller, None), or None without a credential; raise what is wrong with it.

        The request is counted here, in the same round trip as the revocation check; one without a valid credential
        counts against its address, so that a flood of bad ones meets a limit.
        """
        http_request = request._request
        header, api_key = http_request.META.get("HTTP_AUTHORIZATION"), http_request.META.get("HTTP_X_API_KEY")
        if header is None and api_key is None:
            refuse_flood(http_request)
            return None
        throttle = request.parser_context["view"].throttle_classes[0]
        try:
            caller, decision = let_in(header, api_key, throttle, client_address(http_request))
        except GatewayError:
            refuse_flood(http_request)
            raise
        record = record_of(http_request)
        record.caller = caller
        record.passed(Step.IDENTITY, Step.REVOCATION, Step.LOCK, Step.EPOCH)
        record_decision(http_request, decision)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for 401 answers."""
        return "Bearer"


def let_in(
    header: str | None, api_key: str | None, throttle: type[TierThrottle], address: str
) -> tuple[Caller, Decision]:
    """Return the caller and what the limiter says; raise BadRequest for two credentials, or what is wrong with one."""
    if header is not None and api_key is not None:
        raise BadRequest("Both Authorization and X-API-Key", reason="several_credentials")
    if api_key is None:
        caller = read_caller(header or "", address)
        return caller, admit_caller(caller, throttle.limit_for(caller))
    caller = caller_of_key(api_key, address=address)
    try:
        return caller, admit_caller(caller, throttle.limit_for(caller))
    except EpochOver:
        # The owner's tokens were ended, the role may be another: keys live on, with what holds now.
        caller = caller_of_key(api_key, address=address, fresh=True)
        return caller, admit_caller(caller, throttle.limit_for(caller))


def read_caller(header: str, address: str) -> Caller:
    """Return the caller of the Authorization header; raise BadRequest, TokenExpired or TokenInvalid."""
    if "," in header:
        # The server joins repeated fields with a comma, which no credential of ours holds.
        raise BadRequest("More than one Authorization header", reason="several_credentials")
    match = BEARER.fullmatch(header.strip(" \t"))
    if match is None:
        raise TokenInvalid(reason="token_malformed")
    caller = verified_caller(match[1], address)
    if caller.expires_at <= time.time():
        raise TokenExpired()
    return caller


def verified_caller(text: str, address: str) -> Caller:
    """Return the caller that the token tells of; raise TokenExpired or TokenInvalid, which is not remembered.

    A signature that was right stays right as long as the keyring is the same; whether the token has expired or was
    revoked is asked each time. Of an address that is over its limit few unknown tokens are looked at.
    """
    ring = keyring()
    caller = verified.get((ring, text))
    if caller is None:
        if not floods.may_check(address_bucket(address)):
            raise TokenInvalid(reason="flood_not_checked")
        caller = caller_from(read_access_token(text))
        verified.put((ring, text), caller, seconds=caller.expires_at - time.time())
    return caller


def refuse_flood(request: HttpRequest) -> None:
    """Count a request without valid credentials against its address; raise RateLimited over the limit."""
    decision = charge_address(request)
    if not decision.admitted:
        raise decision.error()


def caller_from(token: dict[str, Any]) -> Caller:
    """Return the caller that the claims describe; raise TokenInvalid if they are not of the right kind."""
    try:
        user_id, family = uuid.UUID(token["user_id"]), uuid.UUID(token["family"])
        if type(token["epoch"]) is not int:
            raise TokenInvalid()
        return Caller(str(user_id), Role(token["role"]), token["jti"], str(family), token["exp"], token["epoch"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise TokenInvalid() from error
