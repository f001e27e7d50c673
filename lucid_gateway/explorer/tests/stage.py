"""Finished requests and rows for the tests of the explorer."""

import time
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.rows import address_forms, row_of
from lucid_gateway.kernel.record import Claim, RequestRecord
from lucid_gateway.policy.errors import GatewayError
from lucid_gateway.server.kept_requests import FinishedRequest


def finished(
    error: GatewayError | None = None, *, status: int = 200, claim: Claim | None = None, **facts: Any
) -> FinishedRequest:
    """Return a request that ended just now, refused with the error or answered with the status."""
    record = RequestRecord(client_address="198.51.100.7", user_agent="pytest/1")
    record.request_id, record.method, record.path = "request-1", "GET", "/api/v1/chain/blocks"
    record.claim = claim
    if error is not None:
        record.refused(error)
        status = error.status
    if facts:
        record.note(**facts)
    return FinishedRequest(record, status, 12, 0.25, time.time(), None)


def kept(ago: timedelta = timedelta(), *, now: datetime | None = None, **values: Any) -> KeptRequest:
    """Save a row of a request that started `ago`, with these values."""
    time.sleep(0.001)  # the keys of one millisecond have no order
    row = row_of(finished())
    row.started_at = (now or timezone.now()) - ago
    row.kept_id = key_at(row.started_at, random=True)
    if "address" in values:
        row.address, row.address_key, row.network = address_forms(values.pop("address"))
    for name, value in values.items():
        setattr(row, name, value)
    row.status_class = row.status // 100
    row.save(force_insert=True)
    return row
