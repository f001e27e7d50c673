"""Reads the audit log: filters, and exports as CSV and JSON lines."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import StreamingHttpResponse
from django.utils import timezone

from lucid_gateway.audit.models import AuditEvent, AuditEventQuerySet
from lucid_gateway.kernel.addresses import key_of

COLUMNS = (
    "event_id", "created_at", "type", "outcome", "actor", "subject", "address", "user_agent", "request_id", "details",
)  # fmt: skip
ROWS_AT_A_TIME = 1000
# A spreadsheet treats a cell that begins so as a formula, and clients choose their user agent.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
EXACT = ("outcome", "actor", "subject", "address_key", "request_id")


def matching_events(
    *,
    kind: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    **exact: str,
) -> AuditEventQuerySet:
    """Return the events from `since` until `until` with these exact values. A `kind` that ends in a dot is a prefix."""
    if address := exact.get("address"):
        exact |= {"address": "", "address_key": key_of(address) or address}
    events = AuditEvent.objects.filter(**{name: value for name, value in exact.items() if name in EXACT and value})
    if kind:
        events = events.filter(**({"type__startswith": kind} if kind.endswith(".") else {"type": kind}))
    if since:
        events = events.filter(created_at__gte=since)
    if until:
        events = events.filter(created_at__lt=until)
    return events


def rows(events: AuditEventQuerySet) -> Iterator[dict[str, Any]]:
    """Yield the events as plain values, oldest first, without loading all of them into memory."""
    plain = events.order_by("created_at", "event_id").values(*COLUMNS)
    yield from plain.iterator(chunk_size=ROWS_AT_A_TIME)


def as_json_lines(events: AuditEventQuerySet) -> Iterator[str]:
    for row in rows(events):
        yield json.dumps(row, cls=DjangoJSONEncoder) + "\n"


def as_csv(events: AuditEventQuerySet) -> Iterator[str]:
    """Yield a header line and a line for each event (RFC 4180); details are JSON."""
    yield csv_line(COLUMNS)
    for row in rows(events):
        row["details"] = json.dumps(row["details"], cls=DjangoJSONEncoder)
        row["created_at"] = row["created_at"].isoformat()
        yield csv_line([without_formula(str(value)) for value in row.values()])


def csv_line(values: Any) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def without_formula(text: str) -> str:
    """Return the text with a quote before it if a spreadsheet would treat it as a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


EXPORTS = {"csv": (as_csv, "text/csv; charset=utf-8"), "jsonl": (as_json_lines, "application/jsonl")}


def export(events: Any, form: str) -> StreamingHttpResponse:
    """Return the events as a streamed download; `form` is a key of EXPORTS."""
    lines, content_type = EXPORTS[form]
    name = f"audit-{timezone.now():%Y%m%dT%H%M%SZ}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingHttpResponse(lines(events), content_type=content_type, headers=headers)
