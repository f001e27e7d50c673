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
from sessions_api import lifecycle
from sessions_api.clock import now_ms
from sessions_api.models import Session, TrustPolicy
from sessions_api.models.sessions import MIB
from sessions_api.tests.acts import ENDED, Sessions, begun, over, policy, recorded, uploading
from sessions_api.views import sessions
from sessions_api.views.sessions import expected_version
from testing.parallel import in_parallel

ENDS = ("completed", "failed", "cancelled")


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, error_code(answer)


def fields_at_fault(answer: Any) -> set[str]:
    return {problem["field"] for problem in answer.json()["error"]["details"]["validation_errors"]}


# Whose it is


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_anothers_session_is_not_there(theirs: Sessions, owner: User, method: str) -> None:
    session = begun(owner)

    unknown = theirs.ask(method, str(uuid.uuid4()), {"name": "b"} if method != "get" else None)
    answer = theirs.ask(method, session, {"name": "b"} if method != "get" else None)

    assert refusal(answer) == refusal(unknown) == (404, "4001")
    assert Session.objects.get(pk=session.pk).version == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_staff_changes_no_session_of_others(staffs: Sessions, owner: User, method: str) -> None:
    session = begun(owner)

    assert refusal(staffs.ask(method, session, {"name": "b"})) == (404, "4001")
    assert Session.objects.undeleted().filter(pk=session.pk, version=1).exists()


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_what_is_no_uuid_is_said_to_be_none(mine: Sessions, method: str) -> None:
    assert refusal(mine.ask(method, "no-uuid", {} if method != "get" else None)) == (422, "1005")


# PATCH and PUT


def test_patch_changes_what_it_names(mine: Sessions, owner: User) -> None:
    session = begun(owner, description="kept", metadata={"kept": True})
    before = mine.ask("get", session).json()

    after = mine.ask("patch", session, {"name": "New", "max_size_bytes": 5 * MIB}).json()

    assert after["updated_at"] > before["updated_at"]
    assert after == before | {"name": "New", "max_size_bytes": 5 * MIB, "updated_at": after["updated_at"]}


def test_put_empties_what_it_leaves_out_and_keeps_limit_policy_and_status(mine: Sessions, owner: User) -> None:
    own = policy(owner)
    session = begun(owner, description="a", metadata={"a": 1}, max_size_bytes=7 * MIB, trust_policy=own)

    after = mine.ask("put", session, {"name": "New"}).json()

    assert (after["name"], after["description"], after["metadata"]) == ("New", "", {})
    assert (after["max_size_bytes"], after["trust_policy_id"], after["status"]) == (7 * MIB, str(own.pk), "active")


def test_put_asks_for_a_name(mine: Sessions, owner: User) -> None:
    assert refusal(mine.ask("put", begun(owner), {"description": "b"})) == (422, "1002")


@pytest.mark.parametrize("make", [begun, over])
def test_what_was_read_may_be_put_back(mine: Sessions, owner: User, make: Any) -> None:
    session = make(owner, description="a", metadata={"a": [1]}, settled=make is over)
    before = mine.ask("get", session)

    after = mine.ask("put", session, before.json())

    assert after.json() == before.json()
    assert after["ETag"] == before["ETag"]


def test_metadata_with_names_that_mean_something_to_a_store_is_replaced_whole(mine: Sessions, owner: User) -> None:
    session = begun(owner, metadata={"old": 1})

    for metadata in ({"$set": {"$inc": 1}, "a.b": "$name", "": [{"$": None}]}, {}, {"n": [[], {}, None, -0.5]}):
        assert mine.ask("patch", session, {"metadata": metadata}).json()["metadata"] == metadata
        assert mine.ask("get", session).json()["metadata"] == metadata


def test_values_that_python_takes_for_equal_are_changes(mine: Sessions, owner: User) -> None:
    session = begun(owner, metadata={"n": [1]})

    for value in (True, 1.0, 1, False, 0):
        for read in (mine.ask("patch", session, {"metadata": {"n": [value]}}), mine.ask("get", session)):
            assert repr(read.json()["metadata"]["n"]) == repr([value])


def test_a_policy_is_given_and_taken_away(mine: Sessions, owner: User) -> None:
    session, own = begun(owner), policy(owner)

    assert mine.ask("patch", session, {"trust_policy_id": str(own.pk)}).json()["trust_policy_id"] == str(own.pk)
    assert mine.ask("patch", session, {"trust_policy_id": None}).json()["trust_policy_id"] is None


def test_anothers_policy_is_as_unknown_as_nobodys(mine: Sessions, owner: User, outsider: User) -> None:
    session = begun(owner)

    for create in (lambda policy_id: mine.create(trust_policy_id=policy_id),
                   lambda policy_id: mine.ask("patch", session, {"trust_policy_id": policy_id})):  # fmt: skip
        answers = [create(str(policy_id)) for policy_id in (policy(outsider).pk, uuid.uuid4())]
        problems = [answer.json()["error"]["details"]["validation_errors"] for answer in answers]
        assert [refusal(answer) for answer in answers] == [(422, "1001")] * 2
        assert problems[0] == problems[1]


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("method", ["post", "patch"])
def test_a_policy_that_is_deleted_meanwhile_is_unknown_or_let_go(
    mine: Sessions, owner: User, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    session, own = begun(owner), policy(owner)

    def gone_by_now() -> datetime:
        TrustPolicy.objects.filter(pk=own.pk).delete()
        return now_ms()

    monkeypatch.setattr(lifecycle, "now_ms", gone_by_now)
    fields = {"name": "New", "trust_policy_id": str(own.pk)}
    answer = mine.ask(method, "" if method == "post" else session, fields)

    if settings.ON_MONGODB:
        assert (answer.status_code < 300, answer.json()["trust_policy_id"]) == (True, None)
    else:
        assert refusal(answer) == (422, "1001")
        assert fields_at_fault(answer) == {"trust_policy_id"}
        assert not Session.objects.filter(name="New").exists()


def test_the_limit_cannot_go_below_what_uploads_have_taken(mine: Sessions, owner: User) -> None:
    session = begun(owner, reserved_bytes=3 * MIB)
    recorded(session, 2 * MIB, MIB)

    refused = mine.ask("patch", session, {"max_size_bytes": 2 * MIB})

    assert refusal(refused) == (422, "1004")
    assert fields_at_fault(refused) == {"max_size_bytes"}
    assert mine.ask("patch", session, {"max_size_bytes": 3 * MIB}).status_code == 200


@pytest.mark.parametrize("tagged", [True, False])
def test_the_limit_may_go_below_what_uploads_that_died_have_taken(mine: Sessions, owner: User, *, tagged: bool) -> None:
    session = begun(owner, reserved_bytes=30 * MIB)
    recorded(session, MIB)
    uploading(session, ENDED)
    tag = {"If_Match": mine.ask("get", session)["ETag"]} if tagged else {}

    assert mine.ask("patch", session, {"max_size_bytes": MIB}, **tag).status_code == 200
    assert Session.objects.get(pk=session.pk).reserved_bytes == MIB


# The state machine


@pytest.mark.parametrize("status", ENDS)
def test_an_active_session_comes_to_each_end(mine: Sessions, owner: User, status: str) -> None:
    session_id = mine.create().json()["session_id"]
    started = timezone.now() - timedelta(seconds=90)
    Session.objects.filter(pk=session_id).update(started_at=started)

    after = mine.ask("patch", session_id, {"status": status}).json()

    assert (after["status"], after["duration"]) == (status, 90)
    assert Session.objects.get(pk=session_id).active_slot is None
    event = AuditEvent.objects.get(type=f"session.{status}")
    assert (event.subject, event.actor) == (session_id, str(owner.pk))


@pytest.mark.parametrize("now", ENDS)
def test_an_end_is_for_good(mine: Sessions, owner: User, now: str) -> None:
    session = begun(owner, status=now)

    for asked in ("active", *ENDS):
        refused = mine.ask("patch", session, {"status": asked})
        assert refusal(refused) == (409, "4007")
        assert refused.json()["error"]["details"] == {"status": now}
        assert Session.objects.get(pk=session.pk).status == now


def test_a_session_that_is_active_may_be_said_to_be(mine: Sessions, owner: User) -> None:
    assert mine.ask("patch", begun(owner), {"status": "active"}).json()["status"] == "active"


@pytest.mark.parametrize("change", [{"max_size_bytes": 9 * MIB}, {"trust_policy_id": "own"}])
def test_limit_and_policy_are_the_active_ones_to_change(mine: Sessions, owner: User, change: Any) -> None:
    session, own = over(owner), policy(owner)

    changed = {name: str(own.pk) if value == "own" else value for name, value in change.items()}

    assert refusal(mine.ask("patch", session, changed)) == (409, "4007")


def test_name_description_and_metadata_change_after_the_end_too(mine: Sessions, owner: User) -> None:
    changes = {"name": "New", "description": "b", "metadata": {"b": 1}}

    after = mine.ask("patch", over(owner), changes).json()

    assert {name: after[name] for name in changes} == changes


def test_with_an_end_nothing_else_is_changed_if_the_end_is_refused(mine: Sessions, owner: User) -> None:
    session = over(owner)

    assert refusal(mine.ask("patch", session, {"status": "failed", "name": "New"})) == (409, "4007")
    assert Session.objects.get(pk=session.pk).name == "A session"


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("method", ["patch", "put"])
def test_of_parallel_ends_exactly_one_wins(mine: Sessions, owner: User, method: str) -> None:
    session = begun(owner)

    def end(index: int) -> tuple[int, str]:
        status = ENDS[index % 3] if method == "put" else ENDS[index % 2]
        answer = Sessions(mine.token).ask(method, session, {"status": status, "name": "A session"})
        return answer.status_code, status

    outcomes = in_parallel(6, end)
    winners = {status for code, status in outcomes if code == 200}
    assert winners == {Session.objects.get(pk=session.pk).status}
    assert AuditEvent.objects.filter(type__startswith="session.").count() == 1
    if method == "patch":
        assert Counter(code for code, _ in outcomes) == {200: 1, 409: 5}


# Tags


def test_the_tag_changes_with_whatever_shows(mine: Sessions, owner: User) -> None:
    session = begun(owner)

    tags = [mine.ask("get", session)["ETag"], mine.ask("get", session)["ETag"]]
    tags.append(mine.ask("patch", session, {"name": "New"})["ETag"])
    recorded(session, 5)
    tags.append(mine.ask("get", session)["ETag"])
    Session.objects.filter(pk=session.pk).update(manifest_id=uuid.uuid4())
    tags.append(mine.ask("get", session)["ETag"])

    assert tags[0] == tags[1]
    assert len(set(tags)) == 4
    assert all(tag.startswith('"') for tag in tags)


def test_settling_does_not_change_the_tag(mine: Sessions, owner: User) -> None:
    session = begun(owner)
    recorded(session, 5)
    ended = mine.ask("patch", session, {"status": "completed"})

    assert mine.ask("get", session)["ETag"] == ended["ETag"]
    assert Session.objects.get(pk=session.pk).settled


def test_what_the_client_has_is_not_sent_again(mine: Sessions, owner: User) -> None:
    session = begun(owner)
    tag = mine.ask("get", session)["ETag"]

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = mine.ask("get", session, If_None_Match=known)
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
    assert mine.ask("get", session, If_None_Match='"other"').status_code == 200


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_change_of_another_state_is_refused(mine: Sessions, owner: User, method: str) -> None:
    session = begun(owner)
    tag = mine.ask("get", session)["ETag"]

    for stale in ('"other"', f"W/{tag}", "nonsense", f'"other", W/{tag}', ""):
        assert refusal(mine.ask(method, session, {"name": "New"}, If_Match=stale)) == (412, "4003"), stale
    assert Session.objects.undeleted().filter(pk=session.pk, name="A session").exists()


def test_a_change_of_this_state_is_made(mine: Sessions, owner: User) -> None:
    session = begun(owner)

    for name in ("one", "two"):
        tag = mine.ask("get", session)["ETag"]
        answer = mine.ask("patch", session, {"name": name}, If_Match=f'"other", {tag}')
        assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert mine.ask("patch", session, {"name": "three"}, If_Match="*").status_code == 200


@pytest.mark.parametrize(("method", "status"), [("put", 200), ("patch", 200), ("delete", 202)])
def test_room_that_uploads_take_meanwhile_is_no_change(
    mine: Sessions, owner: User, monkeypatch: pytest.MonkeyPatch, method: str, status: int
) -> None:
    session, taken = begun(owner), []

    def and_then_room_is_taken(*args: Any) -> Any:
        version = expected_version(*args)
        if len(taken) < 3:
            taken.append(Session.objects.filter(pk=session.pk).update(reserved_bytes=5, version=F("version") + 1))
        return version

    tag = mine.ask("get", session)["ETag"]
    monkeypatch.setattr(sessions, "expected_version", and_then_room_is_taken)

    assert mine.ask(method, session, {"name": "New"}, If_Match=tag).status_code == status


@pytest.mark.usefixtures("transactional_db")
def test_no_update_is_lost_between_parallel_readers_who_write(mine: Sessions, owner: User) -> None:
    session = begun(owner, metadata={"count": 0})

    def add_one(_: int) -> None:
        requests, status = Sessions(mine.token), 412
        while status == 412:
            read = requests.ask("get", session)
            metadata = {"count": read.json()["metadata"]["count"] + 1}
            status = requests.ask("patch", session, {"metadata": metadata}, If_Match=read["ETag"]).status_code
        assert status == 200

    in_parallel(5, add_one)
    assert mine.ask("get", session).json()["metadata"] == {"count": 5}
