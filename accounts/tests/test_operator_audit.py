"""The operator pages for the audit log."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import actors_of, messages_of, signed_in, user_page
from lucid_gateway.audit.events import record
from lucid_gateway.audit.models import AuditEvent

LOG = "/admin/audit/auditevent/"


@pytest.fixture
def events(owner: User, node_operator: User) -> None:
    """Four events of two users, from two addresses."""
    for minute, user in enumerate((owner, node_operator), 1):
        for second, kind in enumerate(("login.failed", "login.succeeded")):
            AuditEvent(
                type=kind, outcome="success" if second else "failure", actor=str(user.pk), subject=str(user.pk),
                address=f"192.0.2.{minute}", user_agent="=1+1", request_id=f"request-{user.username}",
                details={"method": "code"}, created_at=datetime(2026, 1, 2, 3, minute, second, tzinfo=UTC),
            ).save()  # fmt: skip


def listed(page: Client, query: str) -> list[tuple[str, str]]:
    """Return (type, subject) of the listed events."""
    return [(event.type, event.subject) for event in page.get(f"{LOG}{query}").context["cl"].result_list]


def exported(page: Client, form: str, query: str = "") -> list[dict[str, Any]]:
    """Return the rows of an export."""
    response = page.get(f"{LOG}export/{form}/{query}")
    assert response.status_code == 200
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text))) if form == "csv" else [json.loads(row) for row in text.splitlines()]


def test_events_are_searched_and_filtered(page: Client, events: None) -> None:
    counts = {
        "": 4, "?outcome__exact=failure": 2, "?type=login.succeeded": 2, "?q=login.failed": 2, "?q=192.0.2.1": 2,
        "?q=request-owner": 2, "?q=nobody": 0, "?q=192.0.2.1&outcome__exact=failure": 1,
        "?created_at__gte=2001-01-01+00:00:00%2B00:00": 4, "?created_at__lt=2001-01-01+00:00:00%2B00:00": 0,
    }  # fmt: skip

    assert {query: len(listed(page, query)) for query in counts} == counts


def test_events_of_a_user_are_found_by_the_id(page: Client, events: None, owner: User) -> None:
    assert {subject for _, subject in listed(page, f"?q={owner.pk}")} == {str(owner.pk)}


def test_the_newest_comes_first_and_the_time_sorts(page: Client, events: None) -> None:
    newest_first = listed(page, "")

    assert newest_first[0][0] == "login.succeeded"
    assert listed(page, "?o=0") == newest_first[::-1]
    assert "2026-01-02 03:02:01" in page.get(LOG).content.decode()


def test_the_filters_show_their_number_of_events(page: Client, events: None) -> None:
    assert "Failure (2)" in page.get(f"{LOG}?_facets=True").content.decode()


def test_an_event_is_shown_with_all_fields(page: Client, events: None, owner: User) -> None:
    event = AuditEvent.objects.get(type="login.failed", subject=str(owner.pk))
    shown = page.get(f"{LOG}{event.pk}/change/").content.decode()

    for text in (str(event.pk), "login.failed", "192.0.2.1", "request-owner", "=1+1", "code"):
        assert text in shown


def test_the_id_of_a_user_links_to_the_users_page(page: Client, events: None, owner: User) -> None:
    record("signing_key.active", subject="0123456789abcdef", actor="manage.py")
    shown = page.get(LOG).content.decode()

    assert f'<a href="{user_page(owner)}">{owner.pk}</a>' in shown
    assert ">manage.py<" in shown
    assert ">0123456789abcdef<" in shown


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_contains_the_filtered_events(page: Client, events: None, form: str) -> None:
    assert [row["type"] for row in exported(page, form, "?q=192.0.2.1&o=1")] == ["login.failed", "login.succeeded"]
    assert [row["address"] for row in exported(page, form, "?outcome__exact=failure&q=192.0.2.1")] == ["192.0.2.1"]


def test_an_export_contains_all_pages_of_the_list(page: Client, owner: User) -> None:
    for _ in range(101):
        record("login.failed", subject=owner)

    assert len(listed(page, "")) == 100
    assert len(exported(page, "csv")) == len(exported(page, "jsonl", "?type=login.failed")) == 101


def test_the_exports_are_linked_with_the_filters(page: Client, events: None) -> None:
    shown = page.get(f"{LOG}?outcome__exact=failure&q=192.0.2.1").content.decode()

    for form in ("csv", "jsonl"):
        assert f'{LOG}export/{form}/?outcome__exact=failure&amp;q=192.0.2.1"' in shown


def test_no_spreadsheet_executes_text_that_a_client_sent(page: Client, events: None) -> None:
    found = {form: {row["user_agent"] for row in exported(page, form, "?q=login.failed")} for form in ("csv", "jsonl")}

    assert found == {"csv": {"'=1+1"}, "jsonl": {"=1+1"}}


def test_an_export_is_a_download_and_recorded(page: Client, admin: User, events: None) -> None:
    response = page.get(f"{LOG}export/csv/")
    b"".join(response.streaming_content)

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="audit-')
    assert "no-store" in response["Cache-Control"]
    assert actors_of("audit.exported") == [(str(admin.pk), "")]


def test_an_unknown_format_is_not_found(page: Client) -> None:
    assert page.get(f"{LOG}export/xml/").status_code == 404
    assert actors_of("audit.exported") == []


@pytest.mark.parametrize("query", ["?no_such_field=1", "?created_at__gte=yesterday"])
def test_an_invalid_filter_is_an_error_message(page: Client, events: None, query: str) -> None:
    assert messages_of(page.get(f"{LOG}export/csv/{query}", follow=True)) == ["This filter does not exist."]


@pytest.mark.parametrize("path", ["export/csv/", "export/jsonl/", ""])
def test_only_staff_can_read_the_log(node_operator: User, path: str) -> None:
    assert signed_in(node_operator).get(f"{LOG}{path}").status_code == 302


def test_events_cannot_be_edited_or_deleted(super_admin_page: Client, events: None) -> None:
    event = AuditEvent.objects.first()
    assert event is not None

    for path in (f"{event.pk}/change/", f"{event.pk}/delete/", "add/"):
        assert super_admin_page.post(f"{LOG}{path}", {"type": "x"}).status_code == 403
    assert "delete_selected" not in super_admin_page.get(LOG).content.decode()
