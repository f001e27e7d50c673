"""GET, PUT and PATCH /sessions/{session_id}."""

import uuid
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from conftest import error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.clock import now_ms
from sessions_api import lifecycle
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.sessions import MIB
from sessions_api.tests.scenarios import (
    ENDED,
    SessionsClient,
    completed_session,
    new_policy,
    new_session,
    record_chunks,
    uploading_chunk,
)
from sessions_api.views import sessions
from sessions_api.views.sessions import expected_version
from testing.parallel import in_parallel

ENDS = ("completed", "failed", "cancelled")


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, error_code(answer)


def fields_at_fault(answer: Any) -> set[str]:
    return {problem["field"] for problem in answer.json()["error"]["details"]["validation_errors"]}


# Access


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_the_session_of_another_user_is_not_found(as_outsider: SessionsClient, owner: User, method: str) -> None:
    session = new_session(owner)

    unknown = as_outsider.request(method, str(uuid.uuid4()), {"name": "b"} if method != "get" else None)
    answer = as_outsider.request(method, session, {"name": "b"} if method != "get" else None)

    assert refusal(answer) == refusal(unknown) == (404, "4001")
    assert Session.objects.get(pk=session.pk).version == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_staff_may_not_change_the_sessions_of_other_users(as_staff: SessionsClient, owner: User, method: str) -> None:
    session = new_session(owner)

    assert refusal(as_staff.request(method, session, {"name": "b"})) == (404, "4001")
    assert Session.objects.undeleted().filter(pk=session.pk, version=1).exists()


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_an_invalid_uuid_gets_its_own_error(as_owner: SessionsClient, method: str) -> None:
    assert refusal(as_owner.request(method, "no-uuid", {} if method != "get" else None)) == (422, "1005")


# PATCH and PUT


def test_patch_changes_only_the_given_fields(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, description="kept", metadata={"kept": True})
    before = as_owner.request("get", session).json()

    after = as_owner.request("patch", session, {"name": "New", "max_size_bytes": 5 * MIB}).json()

    assert after["updated_at"] > before["updated_at"]
    assert after == before | {"name": "New", "max_size_bytes": 5 * MIB, "updated_at": after["updated_at"]}


def test_put_empties_omitted_fields_but_keeps_limit_policy_and_status(as_owner: SessionsClient, owner: User) -> None:
    own = new_policy(owner)
    session = new_session(owner, description="a", metadata={"a": 1}, max_size_bytes=7 * MIB, trust_policy=own)

    after = as_owner.request("put", session, {"name": "New"}).json()

    assert (after["name"], after["description"], after["metadata"]) == ("New", "", {})
    assert (after["max_size_bytes"], after["trust_policy_id"], after["status"]) == (7 * MIB, str(own.pk), "active")


def test_put_requires_a_name(as_owner: SessionsClient, owner: User) -> None:
    assert refusal(as_owner.request("put", new_session(owner), {"description": "b"})) == (422, "1002")


@pytest.mark.parametrize("make", [new_session, completed_session])
def test_a_client_may_put_back_what_it_has_read(as_owner: SessionsClient, owner: User, make: Any) -> None:
    session = make(owner, description="a", metadata={"a": [1]}, settled=make is completed_session)
    before = as_owner.request("get", session)

    after = as_owner.request("put", session, before.json())

    assert after.json() == before.json()
    assert after["ETag"] == before["ETag"]


def test_metadata_with_database_operators_as_keys_is_replaced_as_a_whole(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, metadata={"old": 1})

    for metadata in ({"$set": {"$inc": 1}, "a.b": "$name", "": [{"$": None}]}, {}, {"n": [[], {}, None, -0.5]}):
        assert as_owner.request("patch", session, {"metadata": metadata}).json()["metadata"] == metadata
        assert as_owner.request("get", session).json()["metadata"] == metadata


def test_json_values_that_are_equal_in_python_count_as_changes(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, metadata={"n": [1]})

    for value in (True, 1.0, 1, False, 0):
        for read in (
            as_owner.request("patch", session, {"metadata": {"n": [value]}}),
            as_owner.request("get", session),
        ):
            assert repr(read.json()["metadata"]["n"]) == repr([value])


def test_a_policy_is_assigned_and_removed(as_owner: SessionsClient, owner: User) -> None:
    session, own = new_session(owner), new_policy(owner)

    assert as_owner.request("patch", session, {"trust_policy_id": str(own.pk)}).json()["trust_policy_id"] == str(own.pk)
    assert as_owner.request("patch", session, {"trust_policy_id": None}).json()["trust_policy_id"] is None


def test_the_policy_of_another_user_is_as_unknown_as_a_missing_one(
    as_owner: SessionsClient, owner: User, outsider: User
) -> None:
    session = new_session(owner)

    for create in (lambda policy_id: as_owner.create(trust_policy_id=policy_id),
                   lambda policy_id: as_owner.request("patch", session, {"trust_policy_id": policy_id})):  # fmt: skip
        answers = [create(str(policy_id)) for policy_id in (new_policy(outsider).pk, uuid.uuid4())]
        problems = [answer.json()["error"]["details"]["validation_errors"] for answer in answers]
        assert [refusal(answer) for answer in answers] == [(422, "1001")] * 2
        assert problems[0] == problems[1]


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("method", ["post", "patch"])
def test_a_policy_deleted_meanwhile_is_unknown_or_released(
    as_owner: SessionsClient, owner: User, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    session, own = new_session(owner), new_policy(owner)

    def gone_by_now() -> datetime:
        TrustPolicy.objects.filter(pk=own.pk).delete()
        return now_ms()

    monkeypatch.setattr(lifecycle, "now_ms", gone_by_now)
    fields = {"name": "New", "trust_policy_id": str(own.pk)}
    answer = as_owner.request(method, "" if method == "post" else session, fields)

    if settings.ON_MONGODB:
        assert (answer.status_code < 300, answer.json()["trust_policy_id"]) == (True, None)
    else:
        assert refusal(answer) == (422, "1001")
        assert fields_at_fault(answer) == {"trust_policy_id"}
        assert not Session.objects.filter(name="New").exists()


def test_the_size_limit_cannot_go_below_the_bytes_in_use(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, reserved_bytes=3 * MIB)
    record_chunks(session, 2 * MIB, MIB)

    refused = as_owner.request("patch", session, {"max_size_bytes": 2 * MIB})

    assert refusal(refused) == (422, "1004")
    assert fields_at_fault(refused) == {"max_size_bytes"}
    assert as_owner.request("patch", session, {"max_size_bytes": 3 * MIB}).status_code == 200


@pytest.mark.parametrize("tagged", [True, False])
def test_the_size_limit_may_go_below_the_bytes_of_dead_uploads(
    as_owner: SessionsClient, owner: User, *, tagged: bool
) -> None:
    session = new_session(owner, reserved_bytes=30 * MIB)
    record_chunks(session, MIB)
    uploading_chunk(session, ENDED)
    tag = {"If_Match": as_owner.request("get", session)["ETag"]} if tagged else {}

    assert as_owner.request("patch", session, {"max_size_bytes": MIB}, **tag).status_code == 200
    assert Session.objects.get(pk=session.pk).reserved_bytes == MIB


# The state machine


@pytest.mark.parametrize("status", ENDS)
def test_an_active_session_can_reach_each_final_status(as_owner: SessionsClient, owner: User, status: str) -> None:
    session_id = as_owner.create().json()["session_id"]
    started = timezone.now() - timedelta(seconds=90)
    Session.objects.filter(pk=session_id).update(started_at=started)

    after = as_owner.request("patch", session_id, {"status": status}).json()

    assert (after["status"], after["duration"]) == (status, 90)
    assert Session.objects.get(pk=session_id).active_slot is None
    event = AuditEvent.objects.get(type=f"session.{status}")
    assert (event.subject, event.actor) == (session_id, str(owner.pk))


@pytest.mark.parametrize("now", ENDS)
def test_a_final_status_is_final(as_owner: SessionsClient, owner: User, now: str) -> None:
    session = new_session(owner, status=now)

    for asked in ("active", *ENDS):
        refused = as_owner.request("patch", session, {"status": asked})
        assert refusal(refused) == (409, "4007")
        assert refused.json()["error"]["details"] == {"status": now}
        assert Session.objects.get(pk=session.pk).status == now


def test_an_active_session_accepts_the_status_active(as_owner: SessionsClient, owner: User) -> None:
    assert as_owner.request("patch", new_session(owner), {"status": "active"}).json()["status"] == "active"


@pytest.mark.parametrize("change", [{"max_size_bytes": 9 * MIB}, {"trust_policy_id": "own"}])
def test_size_limit_and_policy_change_only_while_active(as_owner: SessionsClient, owner: User, change: Any) -> None:
    session, own = completed_session(owner), new_policy(owner)

    changed = {name: str(own.pk) if value == "own" else value for name, value in change.items()}

    assert refusal(as_owner.request("patch", session, changed)) == (409, "4007")


def test_name_description_and_metadata_can_change_after_the_end(as_owner: SessionsClient, owner: User) -> None:
    changes = {"name": "New", "description": "b", "metadata": {"b": 1}}

    after = as_owner.request("patch", completed_session(owner), changes).json()

    assert {name: after[name] for name in changes} == changes


def test_a_refused_status_changes_no_other_field(as_owner: SessionsClient, owner: User) -> None:
    session = completed_session(owner)

    assert refusal(as_owner.request("patch", session, {"status": "failed", "name": "New"})) == (409, "4007")
    assert Session.objects.get(pk=session.pk).name == "A session"


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("method", ["patch", "put"])
def test_exactly_one_of_several_parallel_ends_wins(as_owner: SessionsClient, owner: User, method: str) -> None:
    session = new_session(owner)

    def end(index: int) -> tuple[int, str]:
        status = ENDS[index % 3] if method == "put" else ENDS[index % 2]
        answer = SessionsClient(as_owner.token).request(method, session, {"status": status, "name": "A session"})
        return answer.status_code, status

    outcomes = in_parallel(6, end)
    winners = {status for code, status in outcomes if code == 200}
    assert winners == {Session.objects.get(pk=session.pk).status}
    assert AuditEvent.objects.filter(type__startswith="session.").count() == 1
    if method == "patch":
        assert Counter(code for code, _ in outcomes) == {200: 1, 409: 5}


# Tags


def test_the_tag_changes_with_every_visible_field(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner)

    tags = [as_owner.request("get", session)["ETag"], as_owner.request("get", session)["ETag"]]
    tags.append(as_owner.request("patch", session, {"name": "New"})["ETag"])
    record_chunks(session, 5)
    tags.append(as_owner.request("get", session)["ETag"])
    Session.objects.filter(pk=session.pk).update(manifest_id=uuid.uuid4())
    tags.append(as_owner.request("get", session)["ETag"])

    assert tags[0] == tags[1]
    assert len(set(tags)) == 4
    assert all(tag.startswith('"') for tag in tags)


def test_settling_does_not_change_the_tag(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner)
    record_chunks(session, 5)
    ended = as_owner.request("patch", session, {"status": "completed"})

    assert as_owner.request("get", session)["ETag"] == ended["ETag"]
    assert Session.objects.get(pk=session.pk).settled


def test_a_client_with_the_current_tag_gets_304(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner)
    tag = as_owner.request("get", session)["ETag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = as_owner.request("get", session, If_None_Match=known)
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
    assert as_owner.request("get", session, If_None_Match='"other"').status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_change_with_a_stale_tag_is_refused(as_owner: SessionsClient, owner: User, method: str) -> None:
    session = new_session(owner)
    tag = as_owner.request("get", session)["ETag"]

    for stale in ('"other"', f"W/{tag}", "nonsense", f'"other", W/{tag}', ""):
        assert refusal(as_owner.request(method, session, {"name": "New"}, If_Match=stale)) == (412, "4003"), stale
    assert Session.objects.undeleted().filter(pk=session.pk, name="A session").exists()


def test_a_change_with_the_current_tag_succeeds(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner)

    for name in ("one", "two"):
        tag = as_owner.request("get", session)["ETag"]
        answer = as_owner.request("patch", session, {"name": name}, If_Match=f'"other", {tag}')
        assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert as_owner.request("patch", session, {"name": "three"}, If_Match="*").status_code == 200


@pytest.mark.parametrize(("method", "status"), [("put", 200), ("patch", 200), ("delete", 202)])
def test_bytes_reserved_meanwhile_do_not_fail_if_match(
    as_owner: SessionsClient, owner: User, monkeypatch: pytest.MonkeyPatch, method: str, status: int
) -> None:
    session, taken = new_session(owner), []

    def and_then_room_is_taken(*args: Any) -> Any:
        version = expected_version(*args)
        if len(taken) < 3:
            taken.append(Session.objects.filter(pk=session.pk).update(reserved_bytes=5, version=F("version") + 1))
        return version

    tag = as_owner.request("get", session)["ETag"]
    monkeypatch.setattr(sessions, "expected_version", and_then_room_is_taken)

    assert as_owner.request(method, session, {"name": "New"}, If_Match=tag).status_code == status


@pytest.mark.usefixtures("transactional_db")
def test_if_match_prevents_lost_updates(as_owner: SessionsClient, owner: User) -> None:
    session = new_session(owner, metadata={"count": 0})

    def add_one(_: int) -> None:
        requests, status = SessionsClient(as_owner.token), 412
        while status == 412:
            read = requests.request("get", session)
            metadata = {"count": read.json()["metadata"]["count"] + 1}
            status = requests.request("patch", session, {"metadata": metadata}, If_Match=read["ETag"]).status_code
        assert status == 200

    in_parallel(5, add_one)
    assert as_owner.request("get", session).json()["metadata"] == {"count": 5}
