"""GET and POST /sessions."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from sessions_api.models import Session
from sessions_api.models.sessions import GIB, MAX_ACTIVE
from sessions_api.tests.scenarios import SessionsClient, completed_session, new_policy, new_session, record_chunks
from sessions_api.views.sessions import sessions_page
from testing.parallel import in_parallel

FIELDS = {
    "session_id", "user_id", "name", "description", "status", "created_at", "updated_at", "started_at", "completed_at",
    "duration", "size_bytes", "chunk_count", "max_size_bytes", "trust_policy_id", "manifest_id", "metadata",
}  # fmt: skip
DAY = timedelta(days=1)


# Creating


def test_a_new_session_is_active_and_has_defaults(as_owner: SessionsClient, owner: User) -> None:
    answer = as_owner.create()

    session = answer.json()
    assert answer.status_code == 201
    assert set(session) == FIELDS
    assert (session["status"], session["user_id"], session["max_size_bytes"]) == ("active", str(owner.pk), 100 * GIB)
    assert session["created_at"] == session["started_at"]
    assert (session["completed_at"], session["duration"], session["chunk_count"], session["size_bytes"]) == (
        None, None, 0, 0,
    )  # fmt: skip


def test_the_given_fields_are_stored(as_owner: SessionsClient, owner: User) -> None:
    own = new_policy(owner)
    said = {
        "name": "Ærø 🎥", "description": "two\nlines", "max_size_bytes": 2**20, "trust_policy_id": str(own.pk),
        "metadata": {"$set": {"a.b": "$name"}, "": None, "big": 2**63 - 1, "list": [1.5, True, {"nul": "\0"}]},
    }  # fmt: skip

    begun = as_owner.create(**said)

    read = as_owner.request("get", begun.json()["session_id"])
    assert begun.json() == read.json()
    assert {name: read.json()[name] for name in said} == said


def test_the_answer_has_a_location_and_a_tag(as_owner: SessionsClient) -> None:
    answer = as_owner.create()

    session_id = answer.json()["session_id"]
    assert answer["Location"] == f"/api/v1/sessions/{session_id}"
    assert answer["ETag"] == as_owner.request("get", session_id)["ETag"]


def test_the_creation_is_in_the_audit_log(as_owner: SessionsClient, owner: User) -> None:
    session_id = as_owner.create().json()["session_id"]

    event = AuditEvent.objects.get(type="session.created")
    assert (event.subject, event.actor) == (session_id, str(owner.pk))


def test_fields_of_the_gateway_are_not_accepted_from_clients(as_owner: SessionsClient) -> None:
    said = {"status": "completed", "size_bytes": 5, "user_id": "x", "encryption_key": "k", "session_id": "y"}

    session = Session.objects.get(pk=as_owner.create(**said).json()["session_id"])

    assert (session.status, session.size_bytes, session.encryption_key) == ("active", 0, "")


def test_the_encryption_key_is_never_shown(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, encryption_key="very-secret")

    assert b"very-secret" not in as_owner.request("get", session).content + as_owner.all().content


def test_the_hundred_and_first_active_session_is_refused(as_owner: SessionsClient, owner: User) -> None:
    Session.objects.bulk_create(Session(user=owner, name="a", active_slot=slot) for slot in range(MAX_ACTIVE - 1))
    last = as_owner.create().json()["session_id"]

    refused = as_owner.create()
    assert (refused.status_code, error_code(refused)) == (409, "4003")
    assert refused.json()["error"]["details"] == {"limit": 100}

    assert as_owner.request("patch", last, {"status": "failed"}).status_code == 200
    assert as_owner.create().status_code == 201


def test_a_slot_that_was_taken_briefly_is_tried_again(
    as_owner: SessionsClient, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Session.save

    def colliding_once(session: Session, **options: Any) -> None:
        monkeypatch.setattr(Session, "save", save)
        with transaction.atomic():
            new_session(owner, active_slot=session.active_slot)
            save(session, **options)  # with which, on SQLite, the other one goes, too

    monkeypatch.setattr(Session, "save", colliding_once)
    assert as_owner.create().status_code == 201


def test_users_do_not_share_slots(as_owner: SessionsClient, outsider: User) -> None:
    Session.objects.bulk_create(Session(user=outsider, name="a", active_slot=slot) for slot in range(MAX_ACTIVE))

    assert as_owner.create().status_code == 201


@pytest.mark.usefixtures("transactional_db")
def test_parallel_creations_fill_exactly_the_free_slots(as_owner: SessionsClient, owner: User) -> None:
    Session.objects.bulk_create(Session(user=owner, name="a", active_slot=slot) for slot in range(MAX_ACTIVE - 4))

    statuses = in_parallel(12, lambda _: SessionsClient(as_owner.token).create().status_code)

    assert sorted(statuses) == [201] * 4 + [409] * 8
    assert Session.objects.filter(user=owner, active_slot__gte=0).count() == MAX_ACTIVE


# The list


def test_the_list_shows_the_callers_own_sessions(as_owner: SessionsClient, owner: User, outsider: User) -> None:
    new_session(outsider, name="theirs")
    new_session(owner, name="deleted", deleted_at=timezone.now())
    record_chunks(new_session(owner, name="mine"), 10, 20)

    answer = as_owner.all().json()
    assert answer["pagination"] == {"page": 1, "limit": 20, "total": 1, "pages": 1}
    (session,) = answer["sessions"]
    assert session == as_owner.request("get", session["session_id"]).json()
    assert (session["name"], session["size_bytes"], session["chunk_count"]) == ("mine", 30, 2)


def test_filters_select_matching_sessions(as_owner: SessionsClient, owner: User) -> None:
    own, now = new_policy(owner), timezone.now()
    new_session(owner, name="Alpha one", created_at=now - 3 * DAY, trust_policy=own)
    completed_session(owner, name="beta TWO", created_at=now - 2 * DAY)
    new_session(owner, name="alpha.two", created_at=now - DAY)

    for query, names in {
        ("status", "completed"): ["beta TWO"],
        ("status", "failed"): [],
        ("name", "ALPHA"): ["alpha.two", "Alpha one"],
        ("name", "."): ["alpha.two"],
        ("name", "%"): [],
        ("trust_policy_id", str(own.pk)): ["Alpha one"],
        ("created_since", (now - 2 * DAY).isoformat()): ["alpha.two", "beta TWO"],
        ("created_until", (now - 2 * DAY).isoformat()): ["beta TWO", "Alpha one"],
    }.items():
        assert as_owner.names(**dict([query])) == names, query


@pytest.mark.parametrize(
    ("sort", "order"), [("created_at", "abc"), ("updated_at", "cab"), ("name", "bca"), ("status", "abc")]
)
def test_each_sort_field_works_in_both_directions(as_owner: SessionsClient, owner: User, sort: str, order: str) -> None:
    now = timezone.now()
    facts = {"a": (3, 2, "Z", "active"), "b": (2, 1, "X", "cancelled"), "c": (1, 3, "Y", "completed")}
    for key, (created, updated, name, status) in facts.items():
        new_session(owner, description=key, name=name, status=status, created_at=now - created * DAY,
              updated_at=now - updated * DAY)  # fmt: skip

    for query, expected in ((sort, order), (f"-{sort}", order[::-1])):
        assert "".join(session["description"] for session in as_owner.all(sort=query).json()["sessions"]) == expected


def test_pages_with_created_until_are_stable_while_sessions_are_added(as_owner: SessionsClient, owner: User) -> None:
    now = timezone.now()
    for age in range(6):
        new_session(owner, name=f"{age}", created_at=now - age * DAY)
    pages = {"limit": 2, "created_until": as_owner.all(limit=1).json()["sessions"][0]["created_at"]}

    seen = []
    for page in (1, 2, 3):
        seen += as_owner.names(page=page, **pages)
        new_session(owner, name="added meanwhile", created_at=now + DAY)

    assert seen == ["0", "1", "2", "3", "4", "5"]


def test_a_page_of_open_sessions_reads_all_totals_in_one_query(as_owner: SessionsClient, owner: User) -> None:
    for _ in range(3):
        record_chunks(new_session(owner), 5)
    queries_of(as_owner)  # the first request reads what is kept
    few = queries_of(as_owner)

    for _ in range(9):
        record_chunks(new_session(owner), 5)
    assert queries_of(as_owner) == few


def queries_of(as_owner: SessionsClient) -> int:
    """Return how many queries a list takes."""
    with CaptureQueriesContext(connection) as queries:
        assert as_owner.all().status_code == 200
    return len(queries)


# Staff


def test_a_session_deleted_while_its_page_is_read_is_not_on_it(owner: User) -> None:
    there = new_session(owner)
    new_session(owner, deleted_at=timezone.now())

    page = Session.objects.all()  # as it was found
    assert [session["session_id"] for session in sessions_page(page, owner.pk)] == [str(there.pk)]


def test_staff_may_read_the_sessions_of_a_user(as_staff: SessionsClient, owner: User, as_owner: SessionsClient) -> None:
    session = new_session(owner)

    assert as_staff.names() == []
    assert as_staff.names(user_id=str(owner.pk)) == ["A session"]
    assert as_staff.request("get", session).json() == as_owner.request("get", session).json()


def test_plain_users_read_only_their_own_sessions(as_outsider: SessionsClient, outsider: User, owner: User) -> None:
    new_session(owner)

    refused = as_outsider.all(user_id=str(owner.pk))
    assert (refused.status_code, error_code(refused)) == (403, "2004")
    assert as_outsider.names(user_id=str(outsider.pk)) == []


def test_a_staff_api_key_without_admin_read_reads_only_its_owners_sessions(
    api: ApiClient, super_admin: User, owner: User
) -> None:
    session = new_session(owner)
    _, key = create_api_key(super_admin, name="key", permissions=["session:read"])

    for path, status in ((f"/sessions/{session.pk}", 404), (f"/sessions?user_id={owner.pk}", 403), ("/sessions", 200)):
        assert api.send("get", path, headers={"X-API-Key": key}).status_code == status


def test_the_list_requires_the_permission(api: ApiClient, owner: User) -> None:
    _, key = create_api_key(owner, name="key", permissions=["session:read"])

    def status(method: str, data: Any = None) -> int:
        answer: int = api.send(method, "/sessions", data, headers={"X-API-Key": key}).status_code
        return answer

    assert (status("get"), status("post", {"name": "a"})) == (200, 403)
    assert api.send("get", "/sessions").status_code == 401
    assert api.send("delete", "/sessions", token=issue_tokens(owner).access).status_code == 405
