"""Middleware of the rate limiter: finds the client's address, counts requests, and writes the limit headers."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.error_responses import error_response
from lucid_gateway.kernel.operator_pages import is_admin
from lucid_gateway.kernel.record import note_claim, record_of
from lucid_gateway.policy import keys
from lucid_gateway.policy.headers import FROM_TRUSTED_PROXIES
from lucid_gateway.policy.tiers import ADMIN
from ratelimit.addresses.front_gate import ANSWER_WITH
from ratelimit.client_address import client_address, is_trusted, is_within, resolve
from ratelimit.engine.leases import Lease
from ratelimit.engine.leases import request_leases as leases
from ratelimit.engine.limiter import admit_or_fall_back
from ratelimit.rules import limit_for
from ratelimit.throttling import charge_address, decision_of, record_decision

Handler = Callable[[HttpRequest], HttpResponseBase]
UNKNOWN_PATH = "/unknown"
FORWARDED_FIELDS = tuple(f"HTTP_{name.upper().replace('-', '_')}" for name in FROM_TRUSTED_PROXIES)


class TrustedProxyMiddleware:
    """Finds the client's address, and removes the fields in which an untrusted peer names other hops."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.networks = settings.ENV.trusted_networks

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        peer = request.META.get("REMOTE_ADDR", "")
        forwarded_for = request.META.get("HTTP_X_FORWARDED_FOR", "")
        record_of(request).client_address = resolve(peer, forwarded_for, self.networks)
        if not is_trusted(peer, self.networks):
            for field in FORWARDED_FIELDS:
                request.META.pop(field, None)
        return self.get_response(request)


class RateLimitHeadersMiddleware:
    """Writes the limiter's decision into the answer to each request that was counted, admitted or refused."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        decision = decision_of(request)
        if decision is not None and settings.ENV.RATE_LIMIT_ENABLED:
            for name, value in decision.headers().items():
                response[name] = value
        lease: Lease | None = record_of(request).lease
        if lease is not None:
            # Django calls this after the last byte was sent, or when the client has closed the connection.
            response._resource_closers.append(lambda: leases.release(lease))  # type: ignore[attr-defined]
        return response


class UncountedRequestsMiddleware:
    """Counts the failed requests that nothing else has counted, such as those for unknown paths, for their address.

    Preflights and probes are free: their views have empty `throttle_classes`.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code < 400 or decision_of(request) is not None or is_free(request):
            return response
        decision = charge_address(request)
        return response if decision.admitted else error_response(request, decision.error())


def is_free(request: HttpRequest) -> bool:
    """Return whether the request reached a view without limits."""
    view: Any = getattr(request.resolver_match, "func", None)
    view_class = getattr(view, "view_class", getattr(view, "cls", None))
    return view_class is not None and getattr(view_class, "throttle_classes", None) == []


class OperatorNetworksMiddleware:
    """Hides the operator pages from clients outside of ADMIN_NETWORKS.

    Their requests continue as requests for an unknown path, so the answer is the same in every detail. The log keeps
    the path that was sent.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.networks = settings.ENV.admin_networks

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not self.networks or not is_admin(request) or is_within(client_address(request), self.networks):
            return self.get_response(request)
        record_of(request).path = request.path_info
        request.path = request.path_info = UNKNOWN_PATH
        return self.get_response(request)


class NotReadyMiddleware:
    """Answers operators with the error that `ClosedGate` has put into the environ, as a page."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        error = request.META.get(ANSWER_WITH)
        return self.get_response(request) if error is None else error_response(request, error)


class OperatorPagesLimitMiddleware:
    """Limits the operator pages like the API: staff in the admin tier, everyone else by address.

    Runs after AdminAuthenticationMiddleware, which finds out who the user is.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_admin(request):
            return self.get_response(request)
        if request.user.is_staff:
            user_id = request.user.pk
            note_claim("session", "", user_id, request.user.role)
            limit = limit_for(ADMIN.name, f"user:{user_id}")
            decision = record_decision(request, admit_or_fall_back(limit, keys.user(user_id)))
        else:
            decision = charge_address(request)
        return self.get_response(request) if decision.admitted else error_response(request, decision.error())
