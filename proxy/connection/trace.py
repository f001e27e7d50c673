"""The trace of a request (W3C Trace Context, section 3.2): the client's if it sends a valid one, else a new one."""

import re
import secrets

from django.http import HttpRequest

from lucid_gateway.kernel.record import record_of

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent(request: HttpRequest) -> str:
    """Return the traceparent for the cluster, the same in every attempt because the gateway adds no span of its own."""
    record = record_of(request)
    if not record.traceparent:
        new = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
        record.traceparent = client_traceparent(request) or new
    return record.traceparent


def client_traceparent(request: HttpRequest) -> str | None:
    """Return the client's traceparent, or None if it is malformed; versions after 00 may append more fields."""
    sent = request.META.get("HTTP_TRACEPARENT", "")
    match = TRACEPARENT.match(sent)
    if match is None or "," in sent:
        return None
    rest = sent[match.end() :]
    return sent if not rest or (rest.startswith("-") and not sent.startswith("00")) else None
