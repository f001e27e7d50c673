"""The front gate, around the whole application: requests of blocked addresses are refused before any other work."""

import json
import math
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from django.conf import settings

from lucid_gateway.envelope import envelope
from lucid_gateway.errors import GatewayError, InsufficientPermissions, RateLimited
from ratelimit.client_address import resolve
from ratelimit.rules import Verdict, holder, refusal_of

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class AddressGate:
    """A WSGI application that lets others through to the one inside. No line of the log tells of what it refuses: the
    rule counts it.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self.networks = settings.ENV.trusted_networks

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if holder.rules.addresses.networks:
            peer, forwarded_for = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR", "")
            verdict = refusal_of(resolve(peer, forwarded_for, self.networks))
            if verdict is not None:
                return refuse(verdict, start_response)
        return self.application(environ, start_response)


def refuse(verdict: Verdict, start_response: StartResponse) -> list[bytes]:
    """Answer in the envelope: 429 with when the block ends, 403 for what was denied."""
    error, request_id = refusal(verdict), str(uuid.uuid4())
    body = json.dumps(envelope(error, request_id)).encode()
    headers = [
        ("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("X-Request-ID", request_id),
        ("Cache-Control", "no-store"), *error.headers.items(),
    ]  # fmt: skip
    start_response(f"{error.status} {HTTPStatus(error.status).phrase}", headers)
    return [body]


def refusal(verdict: Verdict) -> GatewayError:
    """Return the error for a request of a blocked or denied network."""
    if verdict.expires_at is None:
        return InsufficientPermissions("This address is blocked")
    seconds = max(1, math.ceil((verdict.expires_at - datetime.now(UTC)).total_seconds()))
    details = {"retry_after": seconds, "reason": "blocked"}
    return RateLimited("This address is blocked", details=details, headers={"Retry-After": str(seconds)})
