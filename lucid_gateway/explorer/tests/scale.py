"""Searches of a million kept requests: under 300 ms each, and a constant number of queries.

Not part of the suite, because filling the table takes minutes: `make console-scale`, with ROWS for another number.
"""

import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import signed_in
from accounts.tokens.issuing import issue_tokens
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.rows import address_forms

BATCH = 5_000
LIMIT_MS = 300
REASONS = ("tier_exhausted", "token_expired", "permission_missing", "instance_timeout", "")
STATUSES = (429, 401, 403, 504, 200)
LIST = "/admin/requests/"
SEARCHES = [
    "", "?status=4xx", "?status=504", "?status=418", "?reason=tier_exhausted", "?error_code=3001", "?method=GET",
    "?cluster=blockchain_core", "?address=10.1.2.3", "?network=10.1.2.0/24", "?network=10.1.2.64/26",
    "?network=10.1.0.0/16", "?network=10.0.0.0/8", "?network=192.0.2.0/24", "?path=/api", "?path=/api/v1/rare/7",
    "?path=/nowhere", "?since=1h", "?since=1h&status=4xx", "?status=4xx&method=PUT", "?status=4xx&reason=token_expired",
    "?path=/api&status=504", "?network=10.0.0.0/8&method=PUT", "?user={user}", "?user={user}&status=504",
    "?q=unknown-request-id",
]  # fmt: skip


def row(number: int, started: datetime, user_id: str) -> KeptRequest:
    """Return the row with this number: one in a hundred is of the user, one in ten thousand has a rare path."""
    address = address_forms(f"10.{number // 50_000 % 20}.{number // 250 % 200}.{number % 250}")
    rare = "rare" if number % 10_000 == 0 else "often"
    return KeptRequest(
        kept_id=key_at(started, random=True), request_id=str(uuid.UUID(int=number)), gateway="one:8080", worker="1",
        method="GET", path=f"/api/v1/{rare}/{number}", route="api/v1/often/<str:number>",
        status=STATUSES[number % 5], status_class=STATUSES[number % 5] // 100, error_code="LUCID_ERR_3001",
        reason=REASONS[number % 5], started_at=started, duration_ms=1.5, address=address.text, address_key=address.key,
        network=address.network, user_agent="a client", role="user", credential_kind="token",
        user_id=user_id if number % 100 == 0 else str(uuid.UUID(int=number % 5000)), credential_id=f"{number:032x}",
        cluster="blockchain_core", instance="http://one:1", cache="", trace_id="", response_bytes=100,
        details={"steps": [{"step": "path", "outcome": "passed", "reason": None, "ms": 0.1}] * 8},
    )  # fmt: skip


def measured(get: Callable[[], int]) -> tuple[int, float, float]:
    """Return the number of queries, and the medians of five times and of this process's processor times, in
    milliseconds. On a busy machine only the latter says something.
    """
    with CaptureQueriesContext(connection) as queries:
        assert get() == 200
    count = len(queries)  # the next request clears them
    times, own = [], []
    for _ in range(5):
        began, used = time.perf_counter(), time.process_time()
        get()
        times.append((time.perf_counter() - began) * 1000)
        own.append((time.process_time() - used) * 1000)
    return count, median(times), median(own)


def test_every_search_stays_fast_with_many_rows(super_admin: User, owner: User, request: pytest.FixtureRequest) -> None:
    rows: int = request.config.getoption("--rows")
    now, user_id = timezone.now(), str(owner.pk)
    for start in range(0, rows, BATCH):
        numbers = range(start, min(rows, start + BATCH))
        moments = {number: now - timedelta(milliseconds=80 * number) for number in numbers}
        KeptRequest.objects.bulk_create([row(number, moments[number], user_id) for number in numbers])
    pages, api = signed_in(super_admin), Client(HTTP_HOST="testserver")
    tokens = {user: f"Bearer {issue_tokens(user).access}" for user in (super_admin, owner)}

    def page(path: str) -> Callable[[], int]:
        return lambda: pages.get(path).status_code

    def endpoint(path: str, user: User) -> Callable[[], int]:
        return lambda: api.get(f"/api/v1{path}", headers={"Authorization": tokens[user]}).status_code

    asked = {f"{LIST}{search}": page(LIST + search.format(user=owner.email)) for search in SEARCHES}
    asked["/admin/requests/<id>/"] = page(f"{LIST}{uuid.UUID(int=rows // 2)}/")
    for path, user in (("/admin/requests?limit=100", super_admin), ("/users/me/requests", owner)):
        asked[f"GET {path}"] = endpoint(path, user)
    found = {name: measured(get) for name, get in asked.items()}

    print(f"\n{connection.vendor}, {rows:,} kept requests\n\n| search | queries | ms | of the processor |")
    print("|---|---|---|---|")
    for name, (queries, ms, own) in found.items():
        print(f"| `{name}` | {queries} | {ms:.0f} | {own:.0f} |")
    assert [name for name, (_, ms, _) in found.items() if ms > LIMIT_MS] == []
