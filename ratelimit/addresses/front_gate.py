"""The front gate refuses requests from blocked addresses before any other work."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from django.conf import settings

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.envelope import error_body
from lucid_gateway.kernel.operator_pages import is_page
from lucid_gateway.kernel.record import Outcome, RequestRecord, record_in
from lucid_gateway.policy.errors import DatabaseUnavailable, GatewayError, InsufficientPermissions, RateLimited
from lucid_gateway.policy.reasons import Step
from lucid_gateway.server.kept_requests import kept_requests
from lucid_gateway.server.request_metrics import count_refused
from ratelimit.client_address import address_bucket, is_within, resolve
from ratelimit.engine.shadow import name_of, network_scope, shadow_subjects
from ratelimit.rules import AddressVerdict, observations, observing_rule, refusing_verdict, rules_cache

logger = logging.getLogger(__name__)
Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]
Fields = Sequence[tuple[str, str]]
# The placeholder for a request's id in a prepared refusal, of the same length.
REQUEST_ID = str(uuid.UUID(int=0))
LIVENESS = "/api/v1/meta/health/live"
STATIC = "/static/"
# The key of the error in the WSGI environ of a request that is answered with it as a page.
ANSWER_WITH = "lucid.answer_with"
UNREAD = "The gateway has not been able to read its rules and keys from the database yet"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer and its error: status line without its version, header fields, JSON."""

    error: GatewayError
    status: str
    headers: list[tuple[str, str]]
    body: bytes


class AddressGate:
    """WSGI middleware that refuses blocked addresses. It logs no refusal; the address rule counts them.

    The gateway's own worker calls `refusal_to` as soon as it has read the header block, because preparing the WSGI
    environment would double the cost of a refusal.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.networks = settings.ENV.trusted_networks

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        fields = [("X-FORWARDED-FOR", environ.get("HTTP_X_FORWARDED_FOR", ""))]
        refusal = self.refusal_to(environ.get("REMOTE_ADDR", ""), fields, record_in(environ))
        if refusal is None:
            return self.application(environ, start_response)
        keep(environ, refusal)
        start_response(refusal.status, refusal.headers)
        return [refusal.body]

    def refusal_to(self, peer: str, fields: Fields, record: RequestRecord) -> Refusal | None:
        """Return the refusal of a peer's request with these header fields (names in upper case), None to serve it."""
        if not rules_cache.current.has_addresses:
            return None
        forwarded_for = ",".join(value for name, value in fields if name == "X-FORWARDED-FOR")
        record.client_address = resolve(peer, forwarded_for, self.networks)
        verdict = refusing_verdict(record.client_address)
        if verdict is None:
            observing = observing_rule(record.client_address)
            if observing is None:
                record.passed(Step.ADDRESS_RULE)
            else:
                count_observed(record, observing)
            return None
        note_rule(record, verdict)
        return refused(record, prepared(verdict, int(time.time())))


class ClosedGate:
    """Refuses all requests until `is_ready`, then lets the application serve them.

    A worker that has not read the address rules would serve denied addresses, and one without signing keys could not
    verify any token. Operators get the refusal as a page, with the files that it needs.
    """

    def __init__(self, gate: AddressGate, is_ready: Callable[[], bool]) -> None:
        self.gate, self.inside, self.is_ready = gate, gate.application, is_ready
        self.networks = gate.networks
        gate.application = self

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self.is_ready():
            self.gate.application = self.inside
            logger.info("the rules have been read: serving requests")
        elif self.is_for_operators(environ):
            environ[ANSWER_WITH] = not_ready()
        elif not is_always_served(environ.get("PATH_INFO", "")):
            refusal = refused(record_in(environ), refusal_for(not_ready()))
            keep(environ, refusal)
            start_response(refusal.status, refusal.headers)
            return [] if environ.get("REQUEST_METHOD") == "HEAD" else [refusal.body]
        return self.inside(environ, start_response)

    def is_for_operators(self, environ: Environ) -> bool:
        """Return whether the request is for a page of the console, from a network that may see it."""
        if not is_page(environ.get("PATH_INFO", "")):
            return False
        networks = settings.ENV.admin_networks
        address = resolve(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", ""), self.networks)
        return not networks or is_within(address, networks)


def is_always_served(path: str) -> bool:
    return path == LIVENESS or path.startswith(STATIC)


def not_ready() -> GatewayError:
    return DatabaseUnavailable(UNREAD, reason="gateway_not_ready")


def count_observed(record: RequestRecord, verdict: AddressVerdict) -> None:
    """Note and count a request that a rule in shadow mode would have refused, by its address."""
    note_observed(record, verdict)
    observations.add(verdict.network)
    shadow_subjects.add(network_scope(verdict.network), name_of(address_bucket(record.client_address)))


def note_observed(record: RequestRecord, verdict: AddressVerdict) -> None:
    """Note the rule in shadow mode that would have refused the request."""
    note_rule(record, verdict)
    record.observed_rule = verdict.network
    record.ended(refusal(verdict).reason, Outcome.OBSERVED)


def note_observed_caller(record: RequestRecord, caller: Caller) -> None:
    """Count a request that an address rule in shadow mode would have refused, by its user or API key."""
    if record.observed_rule is not None:
        shadow_subjects.add(network_scope(record.observed_rule), caller.bucket)


def note_rule(record: RequestRecord, verdict: AddressVerdict) -> None:
    """Note the rule that refuses the request, for staff."""
    until = verdict.expires_at.isoformat() if verdict.expires_at else None
    record.note(network=verdict.network, rule=verdict.kind, until=until, automatic=verdict.automatic)


def refused(record: RequestRecord, refusal: Refusal) -> Refusal:
    """Record and count the refusal; return it with the request's id."""
    record.request_id = str(uuid.uuid4())
    record.refused(refusal.error)
    count_refused(record, refusal.error.status)
    body = refusal.body.replace(REQUEST_ID.encode(), record.request_id.encode())
    return replace(refusal, headers=[*refusal.headers, ("X-Request-ID", record.request_id)], body=body)


def keep(environ: Environ, refusal: Refusal) -> None:
    """Let the request explorer keep the refused request."""
    record = record_in(environ)
    record.method, record.path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO")
    record.user_agent = environ.get("HTTP_USER_AGENT", "")
    kept_requests.consider(record, refusal.error.status, len(refusal.body))


@lru_cache(maxsize=256)
def prepared(verdict: AddressVerdict, second: int) -> Refusal:
    """Return the refusal, made once a second: 429 with the time until the block ends, or 403 for a denied network."""
    return refusal_for(refusal(verdict))


def refusal_for(error: GatewayError) -> Refusal:
    """Return the error as an answer in the envelope."""
    body = error_body(error, REQUEST_ID)
    headers = [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"),
        *error.headers.items(),
    ]  # fmt: skip
    return Refusal(error, f"{error.status} {HTTPStatus(error.status).phrase}", headers, body)


def refusal(verdict: AddressVerdict) -> GatewayError:
    """Return the error for requests from a blocked or denied network."""
    if verdict.expires_at is None:
        return InsufficientPermissions("This address is blocked", reason="address_denied")
    seconds = max(1, math.ceil((verdict.expires_at - datetime.now(UTC)).total_seconds()))
    return RateLimited(
        "This address is blocked", details={"reason": "blocked"}, retry_after=seconds, reason="address_blocked"
    )
