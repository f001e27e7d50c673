"""Every page of the console with a million rows: under 300 ms, and as many queries as with a few rows.

Not part of the suite, because filling the tables takes minutes: `make console-scale`, with ROWS for another number.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median
from typing import Any

import pytest
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import signed_in
from lucid_gateway.audit.kinds import KINDS
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.models import KeptRequest, key_at

BATCH = 5_000
FEW = 60
LIMIT_MS = 300
LINK = re.compile(r'href="(/admin/[^"#]*)"')
REASONS = ("tier_exhausted", "token_expired", "permission_missing", "instance_timeout", "")
TYPES = sorted(KINDS)


def user_row(number: int) -> User:
    name = f"user{number}"
    return User(email=f"{name}@example.org", username=name, password="!", role="user")


def event_row(number: int) -> AuditEvent:
    return AuditEvent(
        type=TYPES[number % len(TYPES)], outcome="success", actor=str(uuid.UUID(int=number % 1000)),
        subject=str(uuid.UUID(int=number % 5000)), address=f"198.51.{number // 250 % 250}.{number % 250}",
        user_agent="a client", request_id=str(uuid.UUID(int=number)),
        created_at=timezone.now() - timedelta(seconds=number),
    )  # fmt: skip


def request_row(number: int) -> KeptRequest:
    started = timezone.now() - timedelta(milliseconds=80 * number)
    reason = REASONS[number % len(REASONS)]
    status = 429 if reason else 200
    return KeptRequest(
        kept_id=key_at(started, random=True), request_id=str(uuid.UUID(int=number)), gateway="one", worker="1",
        method="GET", path=f"/api/v1/chain/blocks/{number}", route="api/v1/chain/blocks/<path>", status=status,
        status_class=status // 100, error_code="LUCID_ERR_3001" if reason else "", reason=reason, started_at=started,
        duration_ms=1.5, address=f"198.51.{number // 250 % 250}.{number % 250}", address_key=f"{number % 2**20:032x}",
        network=f"198.51.{number // 250 % 250}.0/24", user_agent="a client", user_id=str(uuid.UUID(int=number % 5000)),
        role="user", credential_kind="token", credential_id=str(number), cluster="blockchain_core", instance="",
        cache="", trace_id="", response_bytes=100,
    )  # fmt: skip


MADE: tuple[tuple[type[models.Model], Callable[[int], Any]], ...] = (
    (User, user_row), (AuditEvent, event_row), (KeptRequest, request_row),
)  # fmt: skip


def fill(first: int, last: int) -> None:
    """Add the rows with these numbers to each table."""
    for model, row in MADE:
        for start in range(first, last, BATCH):
            model._default_manager.bulk_create([row(number) for number in range(start, min(last, start + BATCH))])


def pages(client: Client) -> Iterator[str]:
    """Yield the path of one page of each view that a chain of links leads to."""
    waiting, views = ["/admin/"], {"admin:logout"}
    while waiting:
        path = waiting.pop()
        view = resolve(path.partition("?")[0]).view_name
        if view not in views and "/export/" not in path:
            views.add(view)
            response = client.get(path)
            assert response.status_code in (200, 302), (path, response.status_code)
            waiting += LINK.findall(getattr(response, "content", b"").decode().replace("&amp;", "&"))
            yield path


def queries_of(client: Client, path: str) -> int:
    """Return the number of queries that the page takes."""
    with CaptureQueriesContext(connection) as captured:
        client.get(path)
    return len(captured)


def milliseconds_of(client: Client, path: str) -> float:
    """Return the median of five times to serve the page."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        client.get(path)
        times.append((time.perf_counter() - began) * 1000)
    return median(times)


def test_every_page_stays_fast_with_many_rows(super_admin: User, request: pytest.FixtureRequest) -> None:
    rows: int = request.config.getoption("--rows")
    client = signed_in(super_admin)
    fill(0, FEW)
    paths = list(pages(client))
    few = {path: queries_of(client, path) for path in paths}
    fill(FEW, rows)

    found = [(path, few[path], queries_of(client, path), milliseconds_of(client, path)) for path in paths]
    print(f"\n{connection.vendor}, {rows:,} users, audit events and kept requests\n")
    print("| page | queries, few rows | queries | ms |\n|---|---|---|---|")
    for path, before, queries, ms in found:
        print(f"| `{re.sub('[0-9a-f]{8}-[0-9a-f-]{27}', '<id>', path)}` | {before} | {queries} | {ms:.0f} |")
    slow = [path for path, before, queries, ms in found if ms > LIMIT_MS or queries > before]
    assert slow == []
