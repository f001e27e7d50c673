"""The operator pages for the audit log."""

import csv
import io
import json
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import actors_of, messages_of, signed_in, user_page
from accounts.users.profile import delete_account
from accounts.users.staff import edit_account
from conftest import make_user
from lucid_gateway.audit.events import record
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from sessions_api.lifecycle import create_session
from sessions_api.tests.trust import policy_of

LOG = "/admin/audit/auditevent/"
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'


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
        "?q=login.": 4, "?q=login": 0, "?q=lockout.": 0, "?group=login": 4, "?group=lockout": 0, "?group=log": 0,
        "?group=login&type=login.failed": 2, "?type=no.such": 0, "?q=192.0.2.2": 2, "?q=192.0.2.0/23": 4,
        "?type=login.failed,login.succeeded": 4,
        "?q=192.0.2.2/31": 2, "?q=192.0.2.1/32": 2, "?q=192.0.3.0/24": 0, "?q=192.0.2.0/33": 0, "?q=2001:db8::/32": 0,
        "?q=%3A%3Affff%3A192.0.2.1": 2, "?q=owner@example.org": 2, "?q=OWNER@example.org": 2, "?q=owner": 2,
        "?q=%20request-owner%20": 2, "?q=REQUEST-OWNER": 0, "?q=%25": 0, "?q=": 4,
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


def test_the_email_of_a_user_links_to_the_users_page(page: Client, events: None, owner: User) -> None:
    record("signing_key.active", subject="0123456789abcdef", actor="manage.py")
    shown = page.get(LOG).content.decode()

    assert re.search(f'<a href="{user_page(owner)}"><span[^>]*>{re.escape(owner.email)}</span></a>', shown)
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


# Names, changes and what an operator has done


def queries_of(page: Client, path: str) -> int:
    """Return how many queries the page needs: the fewest of three times, as some requests also save the session."""
    counts = []
    for _ in range(3):
        with CaptureQueriesContext(connection) as captured:
            assert page.get(path).status_code == 200
        counts.append(len(captured))
    return min(counts)


def test_a_row_leads_to_its_request_and_to_the_form_that_blocks_its_address(page: Client, events: None) -> None:
    shown = page.get(LOG).content.decode()

    assert '<a href="/admin/requests/request-owner/" class="button small">Request</a>' in shown
    block = "/admin/ratelimit/addressrule/add/?network=192.0.2.1&amp;kind=blocked"
    assert f'<a href="{block}" class="button small danger">Block…</a>' in shown


def test_subjects_have_names_and_links(page: Client, owner: User, admin: User) -> None:
    session, policy = create_session(owner.pk, name="A call"), policy_of(owner, name="Adults only")
    key, _ = create_api_key(owner, name="indexer", permissions=[], by=admin)
    record("trust_policy.changed", subject=str(policy.pk), actor=owner)
    record("limit.set", subject=f"key:{key.pk}", actor=admin)
    record("limit.set", subject=f"user:{owner.pk}", actor=admin)
    record("address.ruled", subject="192.0.2.0/24", actor=admin)
    text = page.get(LOG).content.decode()

    for name, link in {
        "A call": f"/admin/sessions_api/session/{session.pk}/change/",
        "Adults only": f"/admin/sessions_api/trustpolicy/{policy.pk}/change/",
        "indexer": f"/admin/accounts/apikey/{key.pk}/change/",
        owner.email: user_page(owner),
        "192.0.2.0/24": "/admin/ratelimit/addressrule/?q=192.0.2.0%2F24",
    }.items():
        assert re.search(f'<a href="{re.escape(link)}"><span[^>]*>{re.escape(name)}</span></a>', text), name


def test_names_take_the_same_number_of_queries_for_any_number_of_events(page: Client, owner: User) -> None:
    record("login.failed", subject=owner)
    record("session.created", subject=str(create_session(owner.pk, name="one").pk), actor=owner)
    few = queries_of(page, LOG)
    for number in range(5):
        user = make_user(f"other{number}", Role.USER)
        record("login.failed", subject=user)
        record("session.created", subject=str(create_session(user.pk, name="more").pk), actor=user)

    assert queries_of(page, LOG) == few


def test_a_deleted_account_says_so(page: Client, owner: User) -> None:
    record("login.failed", subject=owner)
    delete_account(owner)

    text = page.get(LOG).content.decode()
    assert "deleted account" in text
    assert "@deleted.invalid" not in text


def test_an_event_shows_old_and_new_values_as_text(page: Client, owner: User, admin: User) -> None:
    owner.first_name, before = HOSTILE, owner.first_name
    edit_account(owner, by=admin, before={"first_name": before})
    event = AuditEvent.objects.get(type="user.updated")
    text = page.get(f"{LOG}{event.pk}/change/").content.decode()

    assert HOSTILE not in text
    assert escape(HOSTILE) in text
    assert ">First name<" in text
    for shown in (admin.email, owner.email, user_page(admin), user_page(owner), "An account was changed"):
        assert shown in text


def test_an_event_links_to_its_address_its_request_and_more_of_its_actor(
    page: Client, events: None, owner: User
) -> None:
    event = AuditEvent.objects.filter(address="192.0.2.1").first()
    assert event is not None
    text = page.get(f"{LOG}{event.pk}/change/").content.decode()

    for link in (
        "/admin/ratelimit/addressrule/add/?network=192.0.2.1&amp;kind=blocked", f"{LOG}?q=192.0.2.1",
        f"{LOG}?q=request-owner", f"{LOG}?actor__exact={owner.pk}",
    ):  # fmt: skip
        assert f'href="{link}"' in text, link


def test_odd_details_are_shown(page: Client) -> None:
    event = record("login.failed", changes={"a": ["1", {"b": [2]}]}, list=["x", 7], nested={"k": None}, flag=True)
    AuditEvent.objects.bulk_create([AuditEvent(type="of.old", details={"changes": {"a": "no pair"}})])
    old = AuditEvent.objects.get(type="of.old")

    assert "x, 7" in page.get(f"{LOG}{event.pk}/change/").content.decode()
    assert page.get(f"{LOG}{old.pk}/change/").status_code == page.get(LOG).status_code == 200


def test_an_operator_sees_what_they_have_done(page: Client, admin: User, owner: User) -> None:
    record("user.locked", subject=owner, actor=admin)
    record("login.failed", subject=owner)
    own, other = f"{LOG}?actor__exact={admin.pk}", f"{LOG}?actor__exact={owner.pk}"

    assert f'<a href="{own}">What have I done</a>' in page.get("/admin/").content.decode()
    assert listed(page, f"?actor__exact={admin.pk}") == [("user.locked", str(owner.pk))]
    assert ">What you have done<" in page.get(own).content.decode()
    assert f">What {owner.email} has done<" in page.get(other).content.decode()


def test_the_times_to_choose_from_are_periods_until_now(page: Client, events: None) -> None:
    record("logout", subject="ada")
    choices = re.findall(r'href="([?]created_at__gte=[^"]+)">(Last [^<]+)<', page.get(LOG).content.decode())

    assert [name for _, name in choices] == ["Last hour", "Last 24 hours", "Last 7 days", "Last 30 days"]
    assert [listed(page, unescape(query)) for query, _ in choices] == [[("logout", "ada")]] * 4


def test_a_search_for_a_network_finds_its_rules_too(page: Client, events: None, admin: User) -> None:
    record("address.ruled", subject="192.0.2.0/24", actor=admin)

    assert len(listed(page, "?q=192.0.2.0/24")) == 5


def test_a_link_may_name_several_kinds_and_a_time(page: Client, events: None) -> None:
    query = {"type": "login.failed,login.blocked", "created_at__gte": "2026-01-01T18:22:00Z"}
    shown = page.get(LOG, query).content.decode()

    assert "<b>A login failed · A login was refused after too many failures</b>" in shown
    assert "<b>Since 2026-01-01 18:22 UTC</b>" in shown
