"""DRF's throttle classes for the tiers. Each request gets one decision, which its record keeps for the headers."""

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
from ratelimit.addresses.floods import floods
from ratelimit.addresses.offenders import is_offence, punish
from ratelimit.client_address import address_bucket, client_address
from ratelimit.engine import bandwidth
from ratelimit.engine.leases import request_leases as leases
from ratelimit.engine.limiter import REFUSALS, Decision, Verdict, admit_or_fall_back, look
from ratelimit.engine.limits import RequestLimit
from ratelimit.engine.shadow import note_shadow_refusal
from ratelimit.models import AddressRule
from ratelimit.rules import address_verdict, byte_limit_for, limit_for

Kind = AddressRule.Kind


def decision_of(request: HttpRequest) -> Limits | None:
    """Return the limiter's decision for this request, None before there is one."""
    return record_of(request).limits


def record_decision(request: HttpRequest, decision: Decision) -> Decision:
    """Keep the decision in the request's record; RateLimitHeadersMiddleware writes it into the answer."""
    record = record_of(request)
    record.limits = decision
    if decision.lease is not None:
        # A later decision may replace this one, but the request keeps its lease until it ends.
        record.lease = decision.lease
        leases.hold(decision.lease)
    if decision.observed:
        record.ended(REFUSALS[decision.verdict].reason, Outcome.OBSERVED)
        note_shadow_refusal(decision.tier_name, record.caller.bucket if record.caller else record.client_address)
    return decision


def address_subject(address: str, endpoint: str = "") -> str:
    """Return the subject that an anonymous request counts for: its address, at one endpoint or at all."""
    return keys.address(address_bucket(address), endpoint)


def address_limit(name: str, address: str) -> RequestLimit | None:
    """Return the limit of a tier for the address: halved for an offender, None for an allowed network."""
    limit, verdict = limit_for(name), address_verdict(address)
    if verdict is None or verdict.kind not in (Kind.HALVED, Kind.ALLOW):
        return limit
    if verdict.kind == Kind.ALLOW:
        return None
    halved = max(1, limit.requests_per_minute // 2)
    return dataclasses.replace(limit, requests_per_minute=halved, burst_size=limit.burst_size // 2)


def charge_address(request: HttpRequest) -> Decision:
    """Count the request in the public tier of its address, and punish an address that keeps exceeding the limit."""
    address = client_address(request)
    limit = address_limit("public", address)
    if limit is None:
        return record_decision(request, unlimited())
    decision = admit_or_fall_back(limit, address_subject(address))
    if not decision.admitted:
        floods.note(address_bucket(address), decision.resets_at)
        if is_offence(decision):
            punish(address, decision)
    return record_decision(request, decision)


def look_at_address(address: str) -> Decision:
    """Return how `charge_address` would decide on the next request of the address, and count nothing.

    Raises RedisUnavailable.
    """
    limit = address_limit("public", address)
    return unlimited() if limit is None else look(limit, address_subject(address)).decision


def unlimited() -> Decision:
    """Return the decision for an address that has no limit."""
    limit = limit_for("public")
    resets_at = int(time.time()) + WINDOW_SECONDS
    return Decision(limit, Verdict.ADMITTED, limit.requests_per_minute, limit.burst_size, WINDOW_SECONDS, resets_at)


class TierThrottle(BaseThrottle):
    """Refuses requests over the limit of a tier.

    Authentication has counted the requests of callers already, in the round trip that checks revocations; for them
    this class only enforces the decision.
    """

    tier_name: ClassVar[str]

    @classmethod
    def limit_for(cls, caller: Caller) -> RequestLimit:
        """Return the limit that counts the caller's requests."""
        return limit_for(cls.tier_name, caller.bucket)

    @classmethod
    def look_at(cls, address: str, view: Any) -> Decision:
        """Return how the next request of the address without a credential would be decided; raise RedisUnavailable."""
        return look_at_address(address)

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited for the tier that refused."""
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
    """For staff. Other callers are refused by the permission class and counted in the authenticated tier."""

    tier_name = tiers.ADMIN.name

    @classmethod
    def limit_for(cls, caller: Caller) -> RequestLimit:
        """Return the limit of the admin tier for staff, of the authenticated tier for others."""
        return limit_for(cls.tier_name if caller.is_staff else AuthenticatedThrottle.tier_name, caller.bucket)


class MonitorThrottle(TierThrottle):
    """For monitoring. Callers without the permission are refused by the permission class and counted in the
    authenticated tier.
    """

    tier_name = tiers.ADMIN.name
    permission: ClassVar[str] = "system:monitor"

    @classmethod
    def limit_for(cls, caller: Caller) -> RequestLimit:
        """Return the limit of the admin tier for callers with the permission, of the authenticated tier for others."""
        name = cls.tier_name if cls.permission in caller.permissions else AuthenticatedThrottle.tier_name
        return limit_for(name, caller.bucket)


class ChunkUploadThrottle(TierThrottle):
    """For uploads, whose bytes are counted as they are read; a read waits until the limit admits its bytes."""

    tier_name = tiers.CHUNK_UPLOAD.name

    def allow_request(self, request: Request, view: Any) -> bool:
        """Meter the body; raise BandwidthExceeded while the caller's earlier uploads still owe bytes."""
        super().allow_request(request, view)
        http_request = request._request
        record = record_of(http_request)
        assert record.caller is not None
        subject, limit = record.caller.subject, byte_limit_for(record.caller.bucket)
        decision = bandwidth.take(limit, subject, 0)
        record.limits = decision
        if decision.admitted:
            record.passed(*decision.steps)
        elif not limit.observe_only:
            raise decision.error()
        else:
            record.ended(decision.error().reason, Outcome.OBSERVED)
        source = http_request.META["wsgi.input"]
        http_request.META["wsgi.input"] = bandwidth.MeteredInput(source, limit, subject)
        return True


@cache
def throttle_for(tier_name: str) -> type[TierThrottle]:
    """Return the throttle class for routes of a tier."""
    if tier_name == ChunkUploadThrottle.tier_name:
        return ChunkUploadThrottle
    return type("RouteThrottle", (TierThrottle,), {"tier_name": TIERS[tier_name].name})


class LoginAttemptThrottle(TierThrottle):
    """For logins, their verification and password resets. Each endpoint counts on its own, by address."""

    tier_name = tiers.LOGIN_ATTEMPT.name

    @classmethod
    def look_at(cls, address: str, view: Any) -> Decision:
        """Return how the next attempt of the address at the view would be decided; raise RedisUnavailable."""
        return look(login_attempt_limit(address), address_subject(address, type(view).__name__)).decision

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, or raise RateLimited."""
        decision = charge_login_attempt(request._request, type(view).__name__)
        if not decision.admitted:
            raise decision.error()
        record_of(request._request).passed(*decision.steps)
        return True


def login_attempt_limit(address: str) -> RequestLimit:
    """Return the limit of login attempts for the address, which an allowed network has, too."""
    name = LoginAttemptThrottle.tier_name
    return address_limit(name, address) or limit_for(name)


def charge_login_attempt(request: HttpRequest, where: str) -> Decision:
    """Count an attempt of the request's address at an endpoint; a refused one counts in the public tier, too."""
    address = client_address(request)
    decision = admit_or_fall_back(login_attempt_limit(address), address_subject(address, where))
    if not decision.admitted:
        charge_address(request)
    return record_decision(request, decision)
