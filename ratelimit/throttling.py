"""DRF's throttle classes for the tiers; one decision a request, kept on the request for its headers."""

import dataclasses
import time
from functools import cache
from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import Limits, Outcome, record_of
from lucid_gateway.policy import keys, tiers
from lucid_gateway.policy.tiers import TIERS, WINDOW_SECONDS
from ratelimit.addresses.client_address import address_bucket, client_address
from ratelimit.addresses.floods import floods
from ratelimit.addresses.offenders import is_offence, punish
from ratelimit.engine import bandwidth
from ratelimit.engine.leases import request_leases as leases
from ratelimit.engine.limiter import REFUSALS, Decision, Verdict, admit_or_fall_back
from ratelimit.engine.limits import RequestLimit
from ratelimit.engine.shadow import observed
from ratelimit.models import AddressRule
from ratelimit.rules import bandwidth_tier_for, tier_for, verdict_on

Kind = AddressRule.Kind


def decision_of(request: HttpRequest) -> Limits | None:
    """Return what was decided for this request, None if nothing was yet."""
    return record_of(request).limits


def remember(request: HttpRequest, decision: Decision) -> Decision:
    """Keep the decision on the request; RateLimitHeadersMiddleware writes it into the answer."""
    record = record_of(request)
    record.limits = decision
    if decision.lease is not None:
        # Beside the decision, which a later one may replace; it is renewed for as long as the request takes.
        record.lease = decision.lease
        leases.hold(decision.lease)
    if decision.observed:
        record.ended(REFUSALS[decision.verdict].reason, Outcome.OBSERVED)
        observed(decision.tier.name, record.caller.bucket if record.caller else record.client_address)
    return decision


def address_subject(request: HttpRequest, endpoint: str = "") -> str:
    """Return whom an anonymous request counts against."""
    return keys.address(address_bucket(client_address(request)), endpoint)


def address_tier(name: str, address: str) -> RequestLimit | None:
    """Return the tier as it is for the address: halved for an offender, None for an allowed network."""
    tier, verdict = tier_for(name), verdict_on(address)
    if verdict is None or verdict.kind not in (Kind.HALVED, Kind.ALLOW):
        return tier
    if verdict.kind == Kind.ALLOW:
        return None
    halved = max(1, tier.requests_per_minute // 2)
    return dataclasses.replace(tier, requests_per_minute=halved, burst_size=tier.burst_size // 2)


def charge_address(request: HttpRequest) -> Decision:
    """Count the request against the public tier of its address, and punish who keeps exceeding it."""
    address = client_address(request)
    tier = address_tier("public", address)
    if tier is None:
        return remember(request, unlimited())
    decision = admit_or_fall_back(tier, address_subject(request))
    if not decision.admitted:
        floods.note(address_bucket(address), decision.resets_at)
        if is_offence(decision):
            punish(address, decision)
    return remember(request, decision)


def unlimited() -> Decision:
    """Return the decision for who is not limited by address."""
    tier = tier_for("public")
    resets_at = int(time.time()) + WINDOW_SECONDS
    return Decision(tier, Verdict.ADMITTED, tier.requests_per_minute, tier.burst_size, WINDOW_SECONDS, resets_at)


class TierThrottle(BaseThrottle):
    """Refuses what its tier does not admit. Authenticated requests were counted while they were authenticated,
    in the same round trip as the revocation check; here the decision is only enforced.
    """

    tier_name: ClassVar[str]

    @classmethod
    def tier_for(cls, caller: Caller) -> RequestLimit:
        """Return the tier that counts the caller's requests."""
        return tier_for(cls.tier_name, caller.bucket)

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited with the tier that refused."""
        decision = decision_of(request._request) or charge_address(request._request)
        if not decision.admitted:
            raise decision.error()
        record_of(request._request).passed(*decision.steps)
        return True


class PublicThrottle(TierThrottle):
    tier_name = tiers.PUBLIC.name


class AuthenticatedThrottle(TierThrottle):
    tier_name = tiers.AUTHENTICATED.name


class AdminThrottle(TierThrottle):
    """For staff endpoints. Callers who are not staff are refused there, and counted in the authenticated tier."""

    tier_name = tiers.ADMIN.name

    @classmethod
    def tier_for(cls, caller: Caller) -> RequestLimit:
        """Return the admin tier for staff alone."""
        return tier_for(cls.tier_name if caller.is_staff else AuthenticatedThrottle.tier_name, caller.bucket)


class MonitorThrottle(TierThrottle):
    """For monitoring. Callers without the permission are refused there, and counted in the authenticated tier."""

    tier_name = tiers.ADMIN.name
    permission: ClassVar[str] = "system:monitor"

    @classmethod
    def tier_for(cls, caller: Caller) -> RequestLimit:
        """Return the admin tier for callers with the permission."""
        name = cls.tier_name if cls.permission in caller.permissions else AuthenticatedThrottle.tier_name
        return tier_for(name, caller.bucket)


class ChunkUploadThrottle(TierThrottle):
    """For uploads: their bytes are counted as they are read, and wait for their turn."""

    tier_name = tiers.CHUNK_UPLOAD.name

    def allow_request(self, request: Request, view: Any) -> bool:
        """Meter the body; raise BandwidthExceeded while the bytes of earlier uploads have not been worked off."""
        super().allow_request(request, view)
        http_request = request._request
        record = record_of(http_request)
        assert record.caller is not None
        subject, tier = record.caller.subject, bandwidth_tier_for(record.caller.bucket)
        decision = bandwidth.take(tier, subject, 0)
        record.limits = decision
        if decision.admitted:
            record.passed(*decision.steps)
        elif not tier.observe_only:
            raise decision.error()
        else:
            record.ended(decision.error().reason, Outcome.OBSERVED)
        source = http_request.META["wsgi.input"]
        http_request.META["wsgi.input"] = bandwidth.MeteredInput(source, tier, subject)
        return True


@cache
def throttle_for(tier_name: str) -> type[TierThrottle]:
    """Return the throttle of the tier for a route."""
    if tier_name == ChunkUploadThrottle.tier_name:
        return ChunkUploadThrottle
    return type("RouteThrottle", (TierThrottle,), {"tier_name": TIERS[tier_name].name})


class LoginAttemptThrottle(TierThrottle):
    """For logins, their verification and password resets: each counts on its own, by address."""

    tier_name = tiers.LOGIN_ATTEMPT.name

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited."""
        decision = charge_login_attempt(request._request, type(view).__name__)
        if not decision.admitted:
            raise decision.error()
        record_of(request._request).passed(*decision.steps)
        return True


def charge_login_attempt(request: HttpRequest, where: str) -> Decision:
    """Count an attempt of the request's address at `where`; what is refused counts as a request, too."""
    address = client_address(request)
    tier = address_tier(LoginAttemptThrottle.tier_name, address) or tier_for(LoginAttemptThrottle.tier_name)
    decision = admit_or_fall_back(tier, address_subject(request, where))
    if not decision.admitted:
        charge_address(request)
    return remember(request, decision)
