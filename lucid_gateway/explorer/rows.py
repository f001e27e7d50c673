"""Makes the row of a finished request."""

import os
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple

from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.kernel.addresses import address_key, network_of
from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.server.kept_requests import FinishedRequest
from ratelimit.client_address import parse

MAX_LISTED = 20  # fields of an invalid request that are kept


class AddressForms(NamedTuple):
    """An address, the form that sorts by number, and its network: a /24 or /48."""

    text: str
    key: str
    network: str


@lru_cache(maxsize=4096)
def address_forms(text: str) -> AddressForms:
    """Return the forms of an address. A text that is not an address, such as that of a Unix socket, has only itself."""
    address = parse(text)
    if address is None:
        return AddressForms(text[:45], "", "")
    return AddressForms(str(address), address_key(address), network_of(address))


@cache
def this_worker() -> tuple[str, str]:
    """Return the name of the gateway and the id of this process."""
    return gateway_name(), str(os.getpid())


def row_of(finished: FinishedRequest) -> KeptRequest:
    """Return the unsaved row. Texts that clients choose are cut to the length of their column."""
    record, claim = finished.record, finished.record.claim
    started = datetime.fromtimestamp(finished.ended_at - finished.seconds, UTC)
    gateway, worker = this_worker()
    address = address_forms(record.client_address)
    key = key_at(started, random=True)
    return KeptRequest(
        kept_id=key, request_id=printable(record.request_id, 128) or str(key), gateway=gateway,
        worker=worker, plane=record.plane, method=printable(record.method, 20), path=printable(path_of(record), 500),
        route=printable(record.route, 200), status=finished.status, status_class=finished.status // 100,
        error_code=record.error_code or "", reason=record.reason or finished.cut or "", started_at=started,
        duration_ms=round(finished.seconds * 1000, 3), address=address.text, address_key=address.key,
        network=address.network, user_agent=printable(record.user_agent, 200),
        user_id=printable(claim.user_id if claim else "", 36), role=printable(claim.role if claim else "", 20),
        credential_kind=claim.kind if claim else "", credential_id=printable(claim.key if claim else "", 64),
        cluster=record.cluster or "", instance=record.attempts[-1].instance[:300] if record.attempts else "",
        upstream_status=record.upstream_status, upstream_ms=record.upstream_ms, cache=record.cache or "",
        trace_id=printable(record.traceparent[3:35], 32), response_bytes=finished.size,
        details=details_of(record, finished.cut),
    )  # fmt: skip


def path_of(record: RequestRecord) -> str:
    """Return the path without a query."""
    return (record.path or "").partition("?")[0]


def printable(text: str | None, length: int) -> str:
    """Return at most `length` characters, with a mark in place of each one that cannot be shown."""
    short = (text or "")[:length]
    if short.isprintable():
        return short
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short)


def details_of(record: RequestRecord, cut: str | None) -> dict[str, Any]:
    """Return the JSON for `KeptRequest.details`, without parts that are empty."""
    attempts = [
        {
            "instance": attempt.instance, "connect_ms": attempt.connect_ms, "send_ms": attempt.send_ms,
            "first_byte_ms": attempt.first_byte_ms, "outcome": attempt.outcome,
        }
        for attempt in record.attempts
    ]  # fmt: skip
    steps = [
        {"step": str(step), "outcome": str(outcome), "reason": reason, "ms": round(at * 1000, 3)}
        for step, outcome, reason, at in record.steps
    ]
    limits = record.limits.numbers() if record.limits is not None else {}
    found = {"steps": steps, "attempts": attempts, "limits": limits, "facts": facts_of(record), "cut": cut}
    return {name: value for name, value in found.items() if value}


def facts_of(record: RequestRecord) -> dict[str, Any]:
    """Return the facts; of the problems of invalid fields only names and codes, as their texts may quote values."""
    facts = dict(record.facts or {})
    if problems := facts.pop("validation_errors", None):
        facts["fields"] = [[printable(problem["field"], 80), problem["code"]] for problem in problems[:MAX_LISTED]]
    return {name: printable(value, 300) if isinstance(value, str) else value for name, value in facts.items()}
