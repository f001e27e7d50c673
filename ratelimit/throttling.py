"""DRF's throttle classes for the tiers; one decision a request, kept on the request for its headers."""

from typing import Any, ClassVar, Protocol

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from ratelimit.client_address import address_bucket, client_address
from ratelimit.limiter import Decision, admit_or_fall_back
from ratelimit.tiers import Tier, tier


class Staff(Protocol):
    """As much of a caller as a throttle asks for."""

    @property
    def is_staff(self) -> bool: ...


def decision_of(request: HttpRequest) -> Decision | None:
    """Return what was decided for this request, None if nothing was yet."""
    return getattr(request, "rate_limit", None)


def remember(request: HttpRequest, decision: Decision) -> Decision:
    """Keep the decision on the request; RateLimitHeadersMiddleware writes it into the answer."""
    request.rate_limit = decision  # type: ignore[attr-defined]
    return decision


def address_subject(request: HttpRequest) -> str:
    """Return whom an anonymous request counts against."""
    return f"ip:{address_bucket(client_address(request))}"


def charge_address(request: HttpRequest) -> Decision:
    """Count the request against the public tier of its address."""
    return remember(request, admit_or_fall_back(tier("public"), address_subject(request)))


class TierThrottle(BaseThrottle):
    """Refuses what its tier does not admit. Authenticated requests were counted while they were authenticated,
    in the same round trip as the revocation check; here the decision is only enforced.
    """

    tier_name: ClassVar[str]

    @classmethod
    def tier_for(cls, caller: Staff) -> Tier:
        """Return the tier that counts the caller's requests."""
        return tier(cls.tier_name)

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited with the tier that refused."""
        decision = decision_of(request._request) or charge_address(request._request)
        if not decision.admitted:
            raise decision.error()
        return True


class PublicThrottle(TierThrottle):
    tier_name = "public"


class AuthenticatedThrottle(TierThrottle):
    tier_name = "authenticated"


class BlockchainQueryThrottle(TierThrottle):
    tier_name = "blockchain_query"


class AdminThrottle(TierThrottle):
    """For staff endpoints; who is no staff is refused there, and counted like everybody else."""

    tier_name = "admin"

    @classmethod
    def tier_for(cls, caller: Staff) -> Tier:
        """Return the admin tier for staff alone."""
        return tier(cls.tier_name if caller.is_staff else AuthenticatedThrottle.tier_name)


class LoginAttemptThrottle(TierThrottle):
    """For logins, their verification and password resets: each counts on its own, by address."""

    tier_name = "login_attempt"

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited."""
        subject = f"{address_subject(request._request)}:{type(view).__name__}"
        decision = remember(request._request, admit_or_fall_back(tier(self.tier_name), subject))
        if not decision.admitted:
            raise decision.error()
        return True
