"""GET /admin/audit: filters, pages and exports; and the log is append-only."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code
from lucid_gateway.audit.events import BLOCKED, FAILURE, record
from lucid_gateway.audit.export import COLUMNS
from lucid_gateway.audit.models import AppendOnly, AuditEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def token(super_admin: User) -> str:
    """An access token that may read the log."""
    return issue_tokens(super_admin).access


@pytest.fixture
def log(db: None) -> None:
    """Seven events, an hour apart, that differ in every filterable field; `details.n` identifies them."""
    rows: list[dict[str, Any]] = [
        {"type": "login.succeeded", "actor": "ada", "subject": "ada", "address": "192.0.2.1", "request_id": "r-0"},
        {"type": "login.failed", "subject": "ada", "outcome": FAILURE, "address": "192.0.2.2", "request_id": "r-1"},
        {"type": "login.blocked", "subject": "bob", "outcome": BLOCKED, "address": "2001:db8::1"},
        {"type": "loginsight", "actor": "ada", "subject": "bob"},
        {"type": "user.locked", "actor": "op", "subject": "ada", "address": "192.0.2.1"},
        {"type": "user.locked_out", "actor": "op", "subject": "bob"},
        {"type": "logout", "actor": "ada", "subject": "ada", "address": "192.0.2.11", "request_id": "r-10"},
    ]
    AuditEvent.objects.bulk_create(
        AuditEvent(created_at=NOON + timedelta(hours=number), details={"n": number}, **row)
        for number, row in enumerate(rows)
    )


def ask(api: ApiClient, token: str, query: str = "") -> Any:
    return api.send("get", f"/admin/audit?{query}", token=token)


def numbers(response: Any) -> list[int]:
    """Return the numbers (`details.n`) of the events on a page."""
    return [event["details"]["n"] for event in response.json()["events"]]


@pytest.mark.usefixtures("log")
def test_filters_select_the_matching_events(api: ApiClient, token: str) -> None:
    found: dict[str, list[int]] = {
        "": [0, 1, 2, 3, 4, 5, 6],
        "type=login.failed": [1],
        "type=login.": [0, 1, 2],
        "type=login": [],
        "type=user.locked": [4],
        "type=user.": [4, 5],
        "type=.": [],
        "type=l%25.": [],
        "type=.*.": [],
        "outcome=success": [0, 3, 4, 5, 6],
        "outcome=failure": [1],
        "outcome=blocked": [2],
        "actor=ada": [0, 3, 6],
        "actor=ad": [],
        "subject=ada": [0, 1, 4, 6],
        "address=192.0.2.1": [0, 4],
        "address=2001:db8::1": [2],
        "request_id=r-1": [1],
        "since=2026-03-01T16:00:00Z": [4, 5, 6],
        "until=2026-03-01T14:00:00Z": [0, 1],
        "since=2026-03-01T15:00:00%2B01:00&until=2026-03-01T16:00:00Z": [2, 3],
        "since=2026-03-01": [0, 1, 2, 3, 4, 5, 6],
        "since=2026-03-02": [],
        "type=login.&outcome=success&subject=ada": [0],
        "type=login.&actor=op": [],
        "type=&actor=&outcome=": [0, 1, 2, 3, 4, 5, 6],
    }
    answers = {query: ask(api, token, f"{query}&sort=created_at") for query in found}

    assert {query: numbers(answer) for query, answer in answers.items()} == found


@pytest.mark.usefixtures("log")
def test_an_event_is_shown_with_all_fields(api: ApiClient, token: str) -> None:
    [event] = ask(api, token, "type=login.failed").json()["events"]

    assert event.pop("event_id") == str(AuditEvent.objects.get(type="login.failed").pk)
    assert event == {
        "created_at": "2026-03-01T13:00:00Z", "type": "login.failed", "outcome": "failure", "actor": "",
        "subject": "ada", "address": "192.0.2.2", "user_agent": "", "request_id": "r-1", "details": {"n": 1},
    }  # fmt: skip


@pytest.mark.usefixtures("log")
def test_the_newest_events_come_first_and_each_is_on_one_page(api: ApiClient, token: str) -> None:
    pages = [ask(api, token, f"limit=3&page={page}") for page in (1, 2, 3, 4)]

    assert [numbers(page) for page in pages] == [[6, 5, 4], [3, 2, 1], [0], []]
    assert [page.json()["pagination"] for page in pages] == [
        {"page": page, "limit": 3, "total": 7, "pages": 3} for page in (1, 2, 3, 4)
    ]


def test_events_with_the_same_time_are_on_one_page_each(api: ApiClient, token: str) -> None:
    AuditEvent.objects.bulk_create(AuditEvent(type="twin", created_at=NOON) for _ in range(10))

    pages = [ask(api, token, f"limit=3&page={page}").json()["events"] for page in (1, 2, 3, 4)]

    assert len({event["event_id"] for page in pages for event in page}) == 10


def test_an_invalid_query_is_refused(api: ApiClient, token: str) -> None:
    rules = {
        "outcome=perhaps": "1003", "since=soon": "1008", "until=2026-13-01T00:00:00Z": "1008", "sort=type": "1003",
        "format=xml": "1003", "type=" + "a" * 41: "1004", "actor=" + "a" * 65: "1004", "address=" + "1" * 46: "1004",
        "request_id=" + "a" * 129: "1004", "page=0": "1004", "limit=101": "1004", "since=soon&page=0": "1001",
        "format=csv&since=soon": "1008", "actor=%00": "1003", "sort=": "1003", "since=": "1008", "until=": "1008",
    }  # fmt: skip
    answers = {query: ask(api, token, query) for query in rules}

    assert {query: error_code(answer) for query, answer in answers.items()} == rules
    assert {answer.status_code for answer in answers.values()} == {422}


# Exports


def export(api: ApiClient, token: str, query: str) -> tuple[Any, str]:
    """Return the answer and its whole text."""
    response = ask(api, token, query)
    assert response.status_code == 200
    return response, response.getvalue().decode()


@pytest.mark.usefixtures("log")
def test_json_lines_contain_all_matching_events_oldest_first(api: ApiClient, token: str) -> None:
    response, text = export(api, token, "format=jsonl&type=login.&limit=1&page=9")

    assert response["Content-Type"] == "application/jsonl"
    assert response["Content-Disposition"].startswith('attachment; filename="audit-')
    assert response["Content-Disposition"].endswith('.jsonl"')
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["details"]["n"] for line in lines] == [0, 1, 2]
    assert {tuple(line) for line in lines} == {COLUMNS}
    assert (lines[0]["created_at"], lines[0]["request_id"]) == ("2026-03-01T12:00:00Z", "r-0")


@pytest.mark.usefixtures("log")
def test_csv_contains_all_matching_events_oldest_first(api: ApiClient, token: str) -> None:
    response, text = export(api, token, "format=csv&subject=ada&sort=-created_at")

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].endswith('.csv"')
    heading, *rows = csv.reader(io.StringIO(text, newline=""))
    assert tuple(heading) == COLUMNS
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    assert [json.loads(row["details"])["n"] for row in table] == [0, 1, 4, 6]
    assert {datetime.fromisoformat(row["created_at"]).date() for row in table} == {NOON.date()}
    assert [row["event_id"] for row in table] == [str(key) for key in keys_of(subject="ada")]


def keys_of(**fields: str) -> list[Any]:
    return list(AuditEvent.objects.filter(**fields).order_by("created_at").values_list("pk", flat=True))


def test_no_user_agent_becomes_a_formula_or_a_second_cell(api: ApiClient, token: str) -> None:
    user_agents = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", 'a","b', "two\nlines", "Ünïcode ☂"]
    AuditEvent.objects.bulk_create(
        AuditEvent(type="test", user_agent=text, created_at=NOON + timedelta(hours=number))
        for number, text in enumerate(user_agents)
    )

    _, *rows = csv.reader(io.StringIO(export(api, token, "format=csv&type=test")[1], newline=""))
    cells = [dict(zip(COLUMNS, row, strict=True))["user_agent"] for row in rows]
    assert [cell.removeprefix("'") for cell in cells] == user_agents
    assert [cell for cell in cells if cell[0] in "=+-@\t\r"] == []
    lines = export(api, token, "format=jsonl&type=test")[1].splitlines()
    assert [json.loads(line)["user_agent"] for line in lines] == user_agents


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_is_audited_and_reading_is_not(api: ApiClient, super_admin: User, token: str, form: str) -> None:
    ask(api, token)
    assert not AuditEvent.objects.filter(type="audit.exported").exists()

    response, _ = export(api, token, f"format={form}")

    event = AuditEvent.objects.get(type="audit.exported")
    assert (event.actor, event.details["format"]) == (str(super_admin.pk), form)
    assert event.request_id == response["X-Request-ID"]


def test_an_export_can_be_longer_than_a_page(api: ApiClient, token: str) -> None:
    AuditEvent.objects.bulk_create(AuditEvent(type="many", created_at=NOON, details={"n": n}) for n in range(2500))

    lines = export(api, token, "format=jsonl&type=many")[1].splitlines()

    assert {json.loads(line)["details"]["n"] for line in lines} == set(range(2500))


# Append-only


def test_events_cannot_be_changed_or_deleted(db: None) -> None:
    event = record("user.locked", subject="ada", reason="stolen laptop")
    before = list(AuditEvent.objects.values())
    event.actor = "somebody else"
    events, this = AuditEvent.objects, AuditEvent.objects.filter(pk=event.pk)
    changes: list[Callable[[], Any]] = [
        lambda: events.update(actor="somebody else"),
        lambda: this.update(details={}),
        lambda: events.all().delete(),
        this.delete,
        lambda: events.bulk_update([event], ["actor"]),
        lambda: events.update_or_create(defaults={"actor": "somebody else"}, pk=event.pk),
        event.delete,
        event.save,
        lambda: event.save(force_update=True, update_fields=["actor"]),
    ]
    for change in changes:
        with pytest.raises((AppendOnly, IntegrityError)), transaction.atomic():
            change()
        assert list(AuditEvent.objects.values()) == before


def test_the_api_only_reads_the_log(api: ApiClient, token: str) -> None:
    answers = [api.send(method, "/admin/audit", {}, token=token) for method in ("post", "put", "patch", "delete")]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(405, "4003")] * 4
