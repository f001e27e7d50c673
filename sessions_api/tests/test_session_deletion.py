"""DELETE /sessions/{session_id} hides the session immediately, and can always be finished."""

import os
import signal
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from django.utils import timezone

from accounts.models import User
from conftest import error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role
from sessions_api import deletion
from sessions_api.models import Chunk, Manifest, Session
from sessions_api.tests.scenarios import ENDED, SessionsClient, new_session, record_chunks, uploading_chunk
from testing.gateway import Gateway, running_gateway
from testing.http.cluster import RawCluster, saying, saying_and_closing
from testing.parallel import in_parallel

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
ERROR = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"


def full(user: User, **fields: Any) -> Session:
    """Return a session with chunks and a manifest."""
    session = new_session(user, **fields)
    record_chunks(session, 10, 20)
    Manifest.objects.create(session=session, user=user, merkle_root="0" * 64, chunk_count=2, total_size=30)
    return session


def kept(session: Session) -> tuple[int, int, int]:
    """Return the numbers of rows of the session: itself, chunks, manifests."""
    rows = (Session.objects.filter(pk=session.pk), Chunk.objects.filter(session_id=session.pk),
            Manifest.objects.filter(session_id=session.pk))  # fmt: skip
    return rows[0].count(), rows[1].count(), rows[2].count()


def statuses(requests: SessionsClient, session: Session) -> set[int]:
    """Return the status codes of reads and changes of the session."""
    return {requests.request(method, session, {"name": "b"} if method != "get" else None).status_code
            for method in ("get", "put", "patch")}  # fmt: skip


@pytest.mark.parametrize("answer", [NO_CONTENT, NOT_FOUND])
def test_a_deletion_reaches_the_cluster_and_removes_all_rows(
    as_owner: SessionsClient, owner: User, cluster: RawCluster, answer: bytes
) -> None:
    cluster.behaviour = saying(answer)
    session, other = full(owner), full(owner)

    deleted = as_owner.request("delete", session)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (cluster.request.method, cluster.request.target) == ("DELETE", f"/api/v1/sessions/{session.pk}")
    fields = dict(cluster.request.fields)
    assert (fields["x-user-id"], fields["x-request-id"]) == (str(owner.pk), deleted["X-Request-ID"])
    assert (kept(session), kept(other)) == ((0, 0, 0), (1, 2, 1))
    assert error_code(as_owner.request("delete", session)) == "4001"


@pytest.mark.parametrize("failure", [saying(ERROR), saying(REFUSED), saying_and_closing()])
def test_a_repeat_finishes_a_deletion_that_the_cluster_missed(
    as_owner: SessionsClient, as_staff: SessionsClient, owner: User, cluster: RawCluster, failure: Any
) -> None:
    cluster.behaviour = failure
    session = full(owner)

    for _ in range(2):
        answer = as_owner.request("delete", session)
        assert (answer.status_code, answer.json()["pending"]) == (202, ["session_management"])
        assert kept(session) == (1, 2, 1)
        assert statuses(as_owner, session) == statuses(as_staff, session) == {404}
        assert as_owner.names() == as_staff.names(user_id=str(owner.pk)) == []

    cluster.behaviour = saying(NO_CONTENT)
    assert as_owner.request("delete", session).status_code == 204
    assert kept(session) == (0, 0, 0)


def test_a_deletion_is_pending_without_a_cluster(as_owner: SessionsClient, owner: User) -> None:
    assert as_owner.request("delete", full(owner)).status_code == 202


def test_a_deletion_frees_the_slot_and_stops_uploads_immediately(as_owner: SessionsClient) -> None:
    session_id = as_owner.create().json()["session_id"]

    assert as_owner.request("delete", session_id).status_code == 202

    session = Session.objects.get(pk=session_id)
    assert (session.active_slot, session.status) == (None, "cancelled")


def test_a_deletion_waits_for_an_upload_in_progress(as_owner: SessionsClient, owner: User, cluster: RawCluster) -> None:
    session = full(owner)
    chunk = uploading_chunk(session)
    assert as_owner.request("delete", session).status_code == 202
    assert not cluster.requests

    Chunk.objects.filter(pk=chunk.pk).update(lease_until=timezone.now() + ENDED)
    assert as_owner.request("delete", session).status_code == 204


def test_another_user_cannot_continue_a_deletion(
    as_owner: SessionsClient, as_outsider: SessionsClient, owner: User, cluster: RawCluster
) -> None:
    cluster.behaviour = saying(ERROR)
    session = full(owner)
    as_owner.request("delete", session)

    assert error_code(as_outsider.request("delete", session)) == "4001"
    assert len(cluster.requests) == 1


def test_the_audit_log_records_the_deletion_and_its_end(
    as_owner: SessionsClient, owner: User, cluster: RawCluster
) -> None:
    session = full(owner)
    cluster.behaviour = saying(ERROR)
    for _ in range(2):
        as_owner.request("delete", session)
    cluster.behaviour = saying(NO_CONTENT)
    as_owner.request("delete", session)

    events = AuditEvent.objects.filter(subject=str(session.pk)).order_by("created_at")
    assert list(events.values_list("type", "actor")) == [
        ("session.deleted", str(owner.pk)), ("session.purged", str(owner.pk)),
    ]  # fmt: skip


class Killed(BaseException):
    """Stands for the death of the worker."""


STEPS = [
    ("begun", deletion, "begin_deletion"),
    ("told", deletion, "delete_on_cluster"),
    ("purge noted", deletion, "record"),
    ("manifest removed", Manifest.objects, "filter"),
    ("chunks removed", Chunk.objects, "filter"),
    ("session removed", Session.objects, "filter"),
]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_a_repeat_finishes_a_deletion_that_was_interrupted_at_any_step(
    as_owner: SessionsClient, owner: User, monkeypatch: pytest.MonkeyPatch, step: tuple[str, Any, str]
) -> None:
    when, part, name = step
    session = full(owner)
    with monkeypatch.context() as patch:
        patch.setattr(part, name, dying_at(getattr(part, name), when))
        with pytest.raises(Killed):
            deletion.delete_session(session, version=None, by=deletion.caller_for(owner))

    assert as_owner.request("get", session).status_code == 404
    assert as_owner.request("delete", session).status_code in (204, 404)
    assert kept(session) == (0, 0, 0)


def dying_at(step: Callable[..., Any], when: str) -> Callable[..., Any]:
    """Return the step followed or preceded by the worker's death; querysets die when they delete."""

    def die(*args: Any, **kwargs: Any) -> Any:
        done = step(*args, **kwargs)
        if when.endswith("removed"):
            delete = done.delete

            def deleting() -> None:
                delete()
                raise Killed

            done.delete = deleting
            return done
        if args[:1] != ("session.deleted",):
            raise Killed
        return done

    return die


@pytest.mark.usefixtures("transactional_db")
def test_parallel_deletions_all_succeed(as_owner: SessionsClient, owner: User, cluster: RawCluster) -> None:
    session = full(owner)

    answers = in_parallel(5, lambda _: SessionsClient(as_owner.token).request("delete", session).status_code)

    assert set(answers) <= {204, 404}
    assert 204 in answers
    assert kept(session) == (0, 0, 0)
    assert Counter(AuditEvent.objects.values_list("type", flat=True))["session.deleted"] == 1


def test_a_repeat_finishes_the_deletion_of_a_killed_worker() -> None:
    with RawCluster() as cluster, running_gateway(SESSION_MANAGEMENT_URL=cluster.url, WEB_CONCURRENCY="1") as gateway:
        headers = {"Authorization": f"Bearer {gateway.issue_token('demo@lucid.test')}"}
        made = requests.post(f"{gateway.url}/sessions", json={"name": "a"}, headers=headers, timeout=10).json()
        session = f"{gateway.url}/sessions/{made['session_id']}"
        cluster.behaviour = lambda visit: kill_the_worker_of(gateway)
        with pytest.raises(requests.ConnectionError):
            requests.delete(session, headers=headers, timeout=10)
        cluster.behaviour = saying(NO_CONTENT)

        assert requests.get(session, headers=headers, timeout=10).status_code == 404
        assert requests.delete(session, headers=headers, timeout=10).status_code == 204
        assert requests.delete(session, headers=headers, timeout=10).status_code == 404
        assert len(cluster.requests) == 2


def kill_the_worker_of(gateway: Gateway) -> None:
    master = gateway.process.pid
    (worker,) = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)


def test_an_unknown_session_cannot_be_deleted(as_owner: SessionsClient) -> None:
    assert error_code(as_owner.request("delete", str(uuid.uuid4()))) == "4001"


def test_the_cluster_gets_the_role_of_the_owner(cluster: RawCluster, db: None) -> None:
    node = make_user("node", Role.NODE_OPERATOR)
    session = full(node)

    assert deletion.delete_session(session, version=None, by=deletion.caller_for(node))
    assert dict(cluster.request.fields)["x-user-role"] == "node_operator"
