"""Teaching the edge: an answer to the edge tells it who the caller is and what limits the caller, so that the edge can
decide the caller's next requests by the same script. It never verifies a credential itself.

An edge that asks whether a client may open a WebSocket learns the same, as long as the tunnel must be watched, and what
to ask the cluster for.
"""

import hmac
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.tokens.revocation.publishing import API_KEY_REMEMBERED
from accounts.tokens.revocation.revisions import shard_of
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.error_responses import links_for_staff
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.record import RequestRecord, record_of
from lucid_gateway.policy.routes import ROUTES
from proxy.edge.revisions import worker_revisions
from proxy.forwarding.handshakes import TARGET_FIELD
from ratelimit.engine.limits import RequestLimit
from ratelimit.models import ALL_TIERS
from ratelimit.rules import limit_for, rule_for

# The edge shows its secret in the first field of a request, and the second one of the answer is for the edge alone.
SECRET_FIELD = "HTTP_X_LUCID_EDGE"  # noqa: S105  # a name
# Beside the secret: the request is a WebSocket handshake, to be decided and not forwarded.
HANDSHAKE_FIELD = "HTTP_X_LUCID_HANDSHAKE"
LESSON_FIELD = "X-Lucid-Caller"
PLANE_FIELD = "X-Lucid-Plane"
TIERS = tuple(sorted({route.tier for route in ROUTES if route.edge}))


class TeachingMiddleware:
    """Adds the lesson to the answers to requests that show the edge's secret, and tells staff which plane answered.

    It runs only if EDGE_SECRET is set.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.secret = settings.ENV.EDGE_SECRET.encode()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        shown = request.META.pop(SECRET_FIELD, None)
        is_edge = shown is not None and hmac.compare_digest(shown.encode("latin-1"), self.secret)
        record = record_of(request)
        if is_edge and HANDSHAKE_FIELD in request.META and request.method == "GET":
            record.is_handshake = True
        # Before the token is verified: the keys may be others when the answer comes, and the lesson rests on these.
        keyring = worker_revisions.keyring() if is_edge else ""
        response = self.get_response(request)
        if record.caller is not None and record.caller.is_staff:
            response.headers[PLANE_FIELD] = "gateway"
        if not is_edge:
            return response
        if not record.is_handshake:
            teach(response, lesson_of(record, keyring))
        elif TARGET_FIELD in response.headers:
            teach(response, tunnel_of(record, keyring, response.headers[TARGET_FIELD]))
            del response.headers[TARGET_FIELD]
            response.headers["X-Accel-Redirect"] = "/"  # to where the edge forwards
        return response


def teach(response: HttpResponseBase, lesson: dict[str, Any] | None) -> None:
    """Add the lesson, if there is one, to the answer."""
    if lesson is not None:
        response.headers[LESSON_FIELD] = json.dumps(lesson, separators=(",", ":"))


def lesson_of(record: RequestRecord, keyring: str) -> dict[str, Any] | None:
    """Return what the edge may know of the caller: identity, limits, until when (epoch seconds), and the revisions on
    which this rests; `keyring` is that of the keys with which the request was authenticated, or an earlier one.

    None for a request without an admitted caller, and for a caller whose limits only this process can apply: those on
    concurrent requests, which need a lease, and those in shadow mode.
    """
    caller = record.caller
    if caller is None:
        return None
    limits = [limit_for(tier, caller.bucket) for tier in TIERS]
    if settings.ENV.RATE_LIMIT_ENABLED and any(map(needs_the_gateway, limits)):
        return None
    lesson = facts_of(caller, keyring) | {
        "until": valid_until(caller),
        "quota": 0,
        "tiers": dict.fromkeys(TIERS, (0, 0)),
    }
    if settings.ENV.RATE_LIMIT_ENABLED:
        lesson["tiers"] = {limit.name: (limit.requests_per_minute, limit.burst_size) for limit in limits}
        lesson["quota"] = limits[0].daily_quota
    return lesson | links_for_staff(record)


def facts_of(caller: Caller, keyring: str) -> dict[str, Any]:
    """Return who the caller is, and what can end that in Redis."""
    return {
        "gateway": gateway_name(), "user_id": caller.user_id, "role": caller.role,
        "permissions": ",".join(sorted(caller.permissions)), "credential": caller.jti, "api_key": caller.by_api_key,
        "epoch": caller.epoch, "keyring": keyring, "limits": worker_revisions.limits_of(caller),
        "shard": shard_of(caller.bucket), "staff": caller.is_staff,
    }  # fmt: skip


def tunnel_of(record: RequestRecord, keyring: str, target: str) -> dict[str, Any]:
    """Return what the edge has to know of an admitted handshake: the caller, until when the credential is valid at most
    (epoch seconds, None for a key without an end), and the target at the cluster.
    """
    caller = record.caller
    assert caller is not None
    return facts_of(caller, keyring) | {"ends": caller.expires_at or None, "target": target}


def needs_the_gateway(limit: RequestLimit) -> bool:
    """Return whether the edge cannot apply the limit."""
    return bool(limit.concurrent_requests or limit.observe_only or limit.observe_totals)


def valid_until(caller: Caller) -> int:
    """Return until when the lesson holds at most: the token's or key's end, the end of a rule that applies, and for an
    API key a minute from now.
    """
    ends = [caller.expires_at] if caller.expires_at else []
    if caller.by_api_key:
        ends.append(int(time.time() + API_KEY_REMEMBERED.total_seconds()))
    return min([*ends, *ends_of_rules(caller)])


def ends_of_rules(caller: Caller) -> Iterable[int]:
    """Yield the end of each limit rule that applies to the caller and has one."""
    for tier in (*TIERS, ALL_TIERS):
        rule = rule_for(tier, [caller.bucket])
        if rule is not None and rule.expires_at is not None:
            yield int(rule.expires_at.timestamp())
