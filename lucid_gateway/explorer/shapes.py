"""Kept requests as JSON: for staff, and for users who look at their own."""

from datetime import UTC, datetime
from typing import Any

from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.cases.caller import Operator
from lucid_gateway.explorer.decided import lines
from lucid_gateway.explorer.explaining import explain
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.words import plain
from lucid_gateway.policy.reasons import REASONS, Audience, Step

COUNTED = (Step.RATE_LIMIT, Step.QUOTA, Step.CONCURRENCY, Step.BANDWIDTH)
# Facts and numbers that callers may read about their own requests. All others name rules, people or networks.
FOR_CALLERS = frozenset(
    {
        "permission", "needs", "limit_bytes", "content_length", "fields", "retry_after", "tier", "limit", "burst",
        "remaining", "burst_remaining", "resets_at", "daily_quota", "concurrent_requests", "route", "credential",
    }
)  # fmt: skip


def for_staff(row: KeptRequest) -> dict[str, Any]:
    """Return a request as staff see it (contract, section 4)."""
    return {**basics(row), "reason": row.reason or None, "steps": steps(row), "attempts": attempts(row)}


def explained(row: KeptRequest, by: Operator) -> dict[str, Any]:
    """Return all that the page of a request shows to the operator."""
    case = Case(row, by=by)
    found = explain(case)
    return for_staff(row) | {
        "sentence": plain(f"{found.headline} {found.says}"),
        "otherwise": found.otherwise or None,
        "remedies": [
            {"text": each.label, "url": each.url, "sends": dict(each.fields) if each.fields else None}
            for each in found.buttons
        ],
        "asks": found.asks,
        "decision": [
            {"name": line.name, "outcome": line.outcome, "text": plain(line.said), "ms": line.ms}
            for line in lines(case)
        ],
        **origin(row),
        "limits": numbers(row) or None,
    }


def origin(row: KeptRequest) -> dict[str, Any]:
    """Return which gateway answered what to whom; a value is null if it is unknown or does not apply."""
    texts = {
        name: getattr(row, name) or None
        for name in ("network", "user_agent", "role", "gateway", "worker", "cluster", "instance", "cache", "trace_id")
    }
    return texts | {
        "upstream_status": row.upstream_status,
        "upstream_ms": row.upstream_ms,
        "response_bytes": row.response_bytes,
        "cut": row.details.get("cut"),
    }


def for_caller(row: KeptRequest) -> dict[str, Any]:
    """Return a caller's own request: without instances, rules and the reasons that are for staff."""
    return {**basics(row), "reason": told(row.reason), "steps": [step_for_caller(step) for step in steps(row)]}


def basics(row: KeptRequest) -> dict[str, Any]:
    return {
        "request_id": row.request_id,
        "plane": row.plane,
        "method": row.method,
        "path": row.path,
        "route": row.route or None,
        "status": row.status,
        "error_code": row.error_code or None,
        "started_at": row.started_at,
        "duration_ms": row.duration_ms,
        "client": row.address or None,
        "user_id": row.user_id or None,
        "credential": credential(row),
    }


def credential(row: KeptRequest) -> dict[str, str | None] | None:
    """Return the kind and id of the credential, None for a request without one."""
    return {"kind": row.credential_kind, "id": row.credential_id or None} if row.credential_kind else None


def told(reason: str | None) -> str | None:
    """Return the reason if clients may read it."""
    return reason if reason in REASONS and REASONS[reason].audience is Audience.CLIENTS else None


def steps(row: KeptRequest) -> list[dict[str, Any]]:
    """Return the steps in the order in which they were taken, each with what is known about it."""
    return [{**step, "details": details(row, step)} for step in row.details.get("steps", [])]


def step_for_caller(step: dict[str, Any]) -> dict[str, Any]:
    allowed = {name: value for name, value in step["details"].items() if name in FOR_CALLERS}
    return {**step, "reason": told(step["reason"]), "details": allowed}


def details(row: KeptRequest, step: dict[str, Any]) -> dict[str, Any]:
    """Return what is known about a step: its own values and, if it did not pass, the facts of the refusal."""
    found: dict[str, Any] = {}
    match step["step"]:
        case Step.ROUTE if row.route:
            found["route"] = row.route
        case Step.IDENTITY if row.credential_kind:
            found["credential"] = credential(row)
        case Step.MAINTENANCE | Step.BULKHEAD if row.cluster:
            found["cluster"] = row.cluster
        case Step.ATTEMPT if row.cluster:
            found |= {"cluster": row.cluster, "status": row.upstream_status, "ms": row.upstream_ms}
        case name if name in COUNTED:
            found |= numbers(row)
    return found | row.facts if step["reason"] and step["reason"] == row.reason else found


def numbers(row: KeptRequest) -> dict[str, Any]:
    """Return the numbers of the limiter, with times as RFC 3339."""
    limits = dict(row.limits)
    if at := limits.get("resets_at"):
        limits["resets_at"] = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    return limits


def attempts(row: KeptRequest) -> list[dict[str, Any]]:
    names = ("instance", "connect_ms", "send_ms", "first_byte_ms", "outcome")
    return [{name: attempt.get(name) for name in names} for attempt in row.details.get("attempts", [])]
