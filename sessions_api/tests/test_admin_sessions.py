"""The operator pages for sessions."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import signed_in, user_page
from conftest import make_user
from lucid_gateway.audit.events import record
from lucid_gateway.policy.roles import Role
from sessions_api.models import Session
from sessions_api.tests.scenarios import (
    ENDED,
    completed_session,
    new_policy,
    new_session,
    record_chunks,
    uploading_chunk,
)

LIST = "/admin/sessions_api/session/"


@pytest.fixture
def page(db: None) -> Client:
    """The browser of an admin, signed in to the operator pages."""
    return signed_in(make_user("admin", Role.ADMIN))


def found(page: Client, query: str = "") -> set[str]:
    """Return the names of the sessions on the list page."""
    response = page.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return {session.name for session in response.context["cl"].result_list}


def test_the_list_shows_owners_and_totals(page: Client, owner: User) -> None:
    record_chunks(new_session(owner, name="one"), 1024, 1024)
    record_chunks(completed_session(owner, name="two"), 5 * 1024**2)

    text = page.get(LIST).content.decode().replace("\xa0", " ")
    for shown in (
        "2.0 KiB",
        "5.0 MiB",
        '<td class="field-chunks" data-label="Chunks">2</td>',
        user_page(owner),
        owner.email,
    ):
        assert shown in text


def test_a_row_leads_to_the_requests_of_its_uploads(page: Client, owner: User) -> None:
    session = new_session(owner)

    shown = page.get("/admin/sessions_api/session/").content.decode()
    assert f"/admin/requests/?path=%2Fapi%2Fv1%2Fsessions%2F{session.pk}%2Fchunks" in shown


def test_the_totals_of_a_page_take_one_query(page: Client, owner: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page.get(LIST)
        return len(captured)

    record_chunks(new_session(owner), 1)
    queries()
    few = queries()
    for _ in range(5):
        record_chunks(new_session(owner), 1)
    assert queries() == few


def test_the_list_uses_no_joins_and_reads_its_users_in_one_query(page: Client, owner: User, super_admin: User) -> None:
    new_session(owner)
    new_session(super_admin)

    with CaptureQueriesContext(connection) as captured:
        query = page.get(LIST).context["cl"].queryset.query
    assert set(query.alias_map) <= {"sessions_api_session"}
    assert not query.select_related
    assert sum("accounts_user" in each["sql"] for each in captured.captured_queries) == 2  # theirs, and the admin's own


def test_mongodb_does_not_count_an_unfiltered_list_row_by_row(page: Client, owner: User) -> None:
    for _ in range(3):
        new_session(owner)
    completed_session(owner)

    with CaptureQueriesContext(connection) as captured:
        assert page.get(LIST).context["cl"].result_count == 4
    counted = any("__count" in each["sql"] for each in captured if "sessions_api_session" in each["sql"])
    assert counted is not settings.ON_MONGODB
    assert page.get(f"{LIST}?status__exact=active").context["cl"].result_count == 3


def test_sessions_are_found_by_name_user_and_id(page: Client, owner: User, super_admin: User) -> None:
    mine, other = new_session(owner, name="Call 4711"), new_session(super_admin, name="Call 4712")

    for term, names in {
        "Call": {"Call 4711", "Call 4712"}, "Call 4711": {"Call 4711"}, "4711": set(), "Owner@example.org": {mine.name},
        "super-admin": {other.name}, str(owner.pk): {mine.name}, str(other.pk).upper(): {other.name},
        f" {mine.pk} ": {mine.name}, "nobody": set(), "%": set(), "": {"Call 4711", "Call 4712"},
    }.items():  # fmt: skip
        assert found(page, f"q={term}") == names, term


def test_sessions_are_filtered(page: Client, owner: User) -> None:
    new_session(owner, name="active")
    completed_session(owner, name="over")
    new_session(owner, name="half", status="cancelled", deleted_at=timezone.now())

    for query, names in {
        "status__exact=active": {"active"}, "deletion=pending": {"half"}, "": {"active", "over", "half"},
        f"user__user_id__exact={owner.pk}": {"active", "over", "half"},
        "created_at__gte=2100-01-01%2000:00:00%2B00:00": set(),
    }.items():  # fmt: skip
        assert found(page, query) == names, query


def test_lists_can_be_sorted_and_filters_show_counts(page: Client, owner: User) -> None:
    new_session(owner)
    for query in (*(f"o={order}" for order in range(9)), "_facets=True", "p=2", "o=-4"):
        assert page.get(f"{LIST}?{query}", follow=True).status_code == 200


def test_a_session_is_shown_without_its_encryption_key(page: Client, owner: User) -> None:
    session = completed_session(
        owner, description="<script>alert(1)</script>", encryption_key="very-secret", trust_policy=new_policy(owner),
        metadata={"ticket": "4711"},
    )  # fmt: skip
    record_chunks(session, 10, 20)

    text = page.get(f"{LIST}{session.pk}/change/").content.decode().replace("\xa0", " ")

    for shown in ("30 bytes", "4711", user_page(owner), f"/admin/audit/auditevent/?q={session.pk}"):
        assert shown in text
    assert "very-secret" not in text
    assert "<script>alert" not in text


def test_a_session_links_to_its_trust_policy(page: Client, owner: User) -> None:
    guarding = new_policy(owner)
    session = new_session(owner, trust_policy=guarding)

    text = page.get(f"{LIST}{session.pk}/change/").content.decode()
    assert f'href="/admin/sessions_api/trustpolicy/{guarding.pk}/change/"' in text


def test_empty_fields_of_a_session_show_a_dash(page: Client, owner: User) -> None:
    assert ">None<" not in page.get(f"{LIST}{new_session(owner).pk}/change/").content.decode()


def test_the_admin_cannot_add_change_or_delete(page: Client, owner: User) -> None:
    session = new_session(owner)

    assert page.get(f"{LIST}add/").status_code == page.get(f"{LIST}{session.pk}/delete/").status_code == 403
    assert page.post(f"{LIST}{session.pk}/change/", {"name": "b"}).status_code == 403
    assert "delete_selected" not in page.get(LIST).content.decode()
    assert Session.objects.get(pk=session.pk).name == "A session"


def test_the_audit_log_links_to_the_session(page: Client, owner: User) -> None:
    session = new_session(owner)
    record("session.created", subject=str(session.pk), actor=owner)

    text = page.get("/admin/audit/auditevent/").content.decode()
    assert f"{LIST}{session.pk}/change/" in text
    assert user_page(owner) in text


@pytest.mark.parametrize("path", [LIST, f"{LIST}x/change/"])
def test_users_who_are_not_staff_are_sent_to_the_login(owner: User, path: str) -> None:
    response: Any = signed_in(owner).get(path)

    assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/")


# The page of a session


def table(page: Client, session: Session, query: str = "") -> list[tuple[str, str]]:
    """Return (index or indexes, state) of each row of the table of chunks."""
    response = page.get(f"{LIST}{session.pk}/change/{query}")
    assert response.status_code == 200
    rows = response.context["table"].rows
    return [(str(row.missing) if row.missing else str(row.chunk.index), row.state[0]) for row in rows]


def says(page: Client, session: Session) -> str:
    """Return the text of the page."""
    return str(page.get(f"{LIST}{session.pk}/change/").content.decode())


def without(session: Session, *indexes: int) -> None:
    session.chunks.filter(index__in=indexes).delete()


def test_missing_and_unfinished_chunks_are_rows_of_the_table(page: Client, owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, *range(1, 8))
    without(session, 0, 1, 4)
    session.chunks.filter(index=2).update(state="uploading", lease_until=timezone.now() + ENDED)
    session.chunks.filter(index=6).update(state="uploading", lease_until=timezone.now() + timedelta(minutes=5))

    assert table(page, session) == [
        ("0–1", "Missing"), ("2", "Broken off"), ("3", "Recorded"), ("4", "Missing"), ("5", "Recorded"),
        ("6", "Uploading"),
    ]  # fmt: skip
    assert "Not recorded yet: index 2, 6." in says(page, session)


def test_the_table_has_pages_that_begin_at_an_index(page: Client, owner: User) -> None:
    session = completed_session(owner)
    record_chunks(session, *[1] * 205)

    first = page.get(f"{LIST}{session.pk}/change/").context["table"]
    second = page.get(f"{LIST}{session.pk}/change/?from={first.following}").context["table"]
    last = page.get(f"{LIST}{session.pk}/change/?from={second.following}").context["table"]
    assert [(len(each.rows), each.previous, each.following) for each in (first, second, last)] == [
        (100, None, 100), (100, 0, 200), (5, 100, None),
    ]  # fmt: skip
    assert table(page, session, "?from=999") == []
    for odd in ("-1", "x", "9" * 30, "%00", "²"):
        assert len(table(page, session, f"?from={odd}")) == 100


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (new_session, "Recording: 0 chunks, 0 bytes so far."),
        (completed_session, "Completed without a chunk. It can have no manifest."),
        (lambda owner: new_session(owner, status="failed"), "The session has failed, with 0 chunks, 0 bytes."),
        (lambda owner: new_session(owner, status="cancelled"), "The session was cancelled, with 0 chunks, 0 bytes."),
        (lambda owner: new_session(owner, status="cancelled", deleted_at=timezone.now()), "is being deleted"),
    ],
)
def test_the_page_says_the_state_first(page: Client, owner: User, make: Any, sentence: str) -> None:
    assert sentence in says(page, make(owner))


def test_a_completed_session_with_missing_chunks_names_them(page: Client, owner: User) -> None:
    session = completed_session(owner)
    record_chunks(session, *[1024] * 6)
    without(session, 2, 3)

    text = says(page, session)
    assert "Completed with 4 chunks, 4.0 KiB. It can have no manifest, because chunks are missing." in text
    assert "2 chunks are missing: index 2–3." in text


def test_a_whole_session_waits_for_its_manifest(page: Client, owner: User) -> None:
    session = completed_session(owner)
    record_chunks(session, 7)

    assert "Completed with 1 chunk, 7 bytes. No chunk is missing" in says(page, session)


def test_the_page_takes_the_same_number_of_queries_for_any_number_of_chunks(page: Client, owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, 1)
    uploading_chunk(session)
    record_chunks(session, 1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            says(page, session)
        return len(captured)

    queries()
    few = queries()
    record_chunks(session, *[1] * 150)
    assert queries() == few


def test_the_page_links_to_the_requests_of_its_uploads(page: Client, owner: User) -> None:
    session = new_session(owner)
    link = f"/admin/requests/?path=%2Fapi%2Fv1%2Fsessions%2F{session.pk}%2Fchunks"

    assert f'href="{link}"' in says(page, session)
    assert page.get(link).status_code == 200


def test_a_search_finds_beginnings_of_names_and_not_parts(page: Client, owner: User) -> None:
    new_session(owner, name="Call 4711")

    assert found(page, "q=Cal") == {"Call 4711"}
    assert found(page, "q=all") == set()
