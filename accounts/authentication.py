"""DRF authentication by access token: signature, revocation, lock and limit, without the database."""

import re

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError

from accounts.callers import Caller
from accounts.revocation import admit_caller
from accounts.roles import Role
from accounts.tokens import AccessToken
from lucid_gateway.errors import BadRequest, TokenExpired, TokenInvalid
from ratelimit.throttling import charge_address, remember
from ratelimit.tiers import tier

BEARER = re.compile(r"bearer +([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)", re.IGNORECASE)


class BearerAuthentication(BaseAuthentication):
    """Accepts `Authorization: Bearer <access token>` (RFC 6750, section 2.1)."""

    def authenticate(self, request: Request) -> tuple[Caller, AccessToken] | None:
        """Return (caller, token), or None without a token; raise what is wrong with it.

        The request is counted here, in the same round trip as the revocation check; one without a valid token
        counts against its address, so that a flood of bad tokens meets a limit.
        """
        http_request = request._request
        header = http_request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            refuse_flood(http_request)
            return None
        token = self.read_token(http_request, header)
        caller = caller_from(token)
        view = request.parser_context["view"]
        throttle = view.throttle_classes[0]
        http_request.caller = caller  # type: ignore[attr-defined]
        remember(http_request, admit_caller(caller, tier(throttle.tier_name)))
        return caller, token

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge for 401 answers."""
        return "Bearer"

    def read_token(self, request: HttpRequest, header: str) -> AccessToken:
        """Return the verified token; count a bad one against the address."""
        if "," in header:
            # The server joins repeated fields with a comma, which no credential of ours holds.
            raise BadRequest("More than one Authorization header")
        match = BEARER.fullmatch(header.strip())
        try:
            if match is None:
                raise TokenError("not a bearer token")
            return AccessToken(match[1])  # type: ignore[arg-type]  # simplejwt annotates the text as Token
        except ExpiredTokenError as error:
            refuse_flood(request)
            raise TokenExpired() from error
        except TokenError as error:
            refuse_flood(request)
            raise TokenInvalid() from error


def refuse_flood(request: HttpRequest) -> None:
    """Count a request without valid credentials against its address; raise RateLimited over the limit."""
    decision = charge_address(request)
    if not decision.admitted:
        raise decision.error()


def caller_from(token: AccessToken) -> Caller:
    """Return the caller that the claims describe; raise TokenInvalid if they are not of the right kind."""
    try:
        return Caller(str(token["user_id"]), Role(token["role"]), str(token["jti"]), str(token["family"]))
    except (KeyError, ValueError) as error:
        raise TokenInvalid() from error
