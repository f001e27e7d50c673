"""manage.py prune_sessions finishes interrupted deletions."""

import io
import json
import sys

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from accounts.users.profile import delete_account
from lucid_gateway.audit.models import AuditEvent
from proxy.choosing.closures import Closures, closures_cache
from proxy.operators.closing import close_cluster
from sessions_api import deletion
from sessions_api.management.commands import prune_sessions
from sessions_api.models import Session, TrustPolicy
from sessions_api.tests.scenarios import new_policy, new_session, record_chunks
from sessions_api.tests.test_session_deletion import ERROR, NO_CONTENT, full, kept
from testing.http.cluster import RawCluster, saying


def run(*arguments: str) -> dict[str, int]:
    output = io.StringIO()
    call_command("prune_sessions", "--json", *arguments, stdout=output)
    numbers: dict[str, int] = json.loads(output.getvalue())
    return numbers


def half_deleted(user: User) -> Session:
    return full(user, deleted_at=timezone.now())


def test_half_deleted_sessions_are_removed_and_others_stay(owner: User, cluster: RawCluster) -> None:
    cluster.behaviour = saying(NO_CONTENT)
    gone, there = [half_deleted(owner) for _ in range(2)], full(owner)

    assert run() == {"finished": 2, "pending": 0}

    assert [kept(session) for session in (*gone, there)] == [(0, 0, 0), (0, 0, 0), (1, 2, 1)]
    assert dict(cluster.requests[0].fields)["x-user-id"] == str(owner.pk)
    assert set(AuditEvent.objects.values_list("type", "actor")) == {("session.purged", "manage.py")}


def test_sessions_stay_pending_while_the_cluster_is_unavailable(owner: User, cluster: RawCluster) -> None:
    cluster.behaviour = saying(ERROR)
    session = half_deleted(owner)

    with pytest.raises(CommandError):
        run()
    assert kept(session) == (1, 2, 1)


def test_the_command_stops_after_repeated_failures_of_the_cluster(owner: User, cluster: RawCluster) -> None:
    cluster.behaviour = saying(ERROR)
    for _ in range(8):
        new_session(owner, deleted_at=timezone.now())

    with pytest.raises(CommandError):
        run()
    assert len(cluster.requests) == prune_sessions.MAX_FAILURES


def test_sessions_that_always_fail_do_not_block_others(owner: User, cluster: RawCluster) -> None:
    for _ in range(prune_sessions.MAX_FAILURES):
        new_session(owner, deleted_at=timezone.now())
    last = new_session(owner, deleted_at=timezone.now())
    cluster.behaviour = lambda visit: visit.send(NO_CONTENT if str(last.pk) in visit.request.target else ERROR)

    for _ in range(30):  # five of six times a run comes to it
        with pytest.raises(CommandError):
            run()
    assert kept(last) == (0, 0, 0)


def test_a_dry_run_only_counts(owner: User, cluster: RawCluster) -> None:
    half_deleted(owner)

    assert run("--dry-run") == {"finished": 0, "pending": 1}
    assert not cluster.requests


def test_the_command_prints_its_numbers(owner: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("prune_sessions")
    assert capsys.readouterr().out == "finished: 0 sessions, pending: 0\n"


def test_a_terminal_shows_a_progress_bar(
    owner: User, cluster: RawCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record_chunks(new_session(owner, deleted_at=timezone.now()), 1)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    call_command("prune_sessions")
    assert "1/1" in capsys.readouterr().err


def test_sessions_and_policies_of_deleted_accounts_are_deleted(
    owner: User, outsider: User, cluster: RawCluster
) -> None:
    cluster.behaviour = saying(NO_CONTENT)
    sessions = [full(owner, trust_policy=new_policy(owner)), full(owner, status="completed", active_slot=None)]
    kept_one, kept_policy = full(outsider), new_policy(outsider)
    delete_account(owner)

    assert run("--dry-run") == {"finished": 0, "pending": 2}
    assert [kept(session) for session in sessions] == [(1, 2, 1)] * 2
    assert run() == {"finished": 2, "pending": 0}

    assert [kept(session) for session in (*sessions, kept_one)] == [(0, 0, 0), (0, 0, 0), (1, 2, 1)]
    assert TrustPolicy.objects.get() == kept_policy
    assert {request.target for request in cluster.requests} == {
        f"/api/v1/sessions/{session.pk}" for session in sessions
    }


def test_many_chunks_are_deleted_in_batches(owner: User, cluster: RawCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.behaviour = saying(NO_CONTENT)
    monkeypatch.setattr(deletion, "CHUNKS_PER_DELETE", 2)
    session = new_session(owner, deleted_at=timezone.now())
    record_chunks(session, *range(1, 8))

    with CaptureQueriesContext(connection) as captured:
        assert run() == {"finished": 1, "pending": 0}
    assert kept(session) == (0, 0, 0)
    assert sum("sessions_api_chunk" in each["sql"] and "DELETE" in each["sql"].upper() for each in captured) >= 4


def test_policies_of_deleted_accounts_are_deleted_while_the_cluster_is_down(owner: User, cluster: RawCluster) -> None:
    cluster.behaviour = saying(ERROR)
    session = full(owner, trust_policy=new_policy(owner))
    delete_account(owner)

    with pytest.raises(CommandError):
        run()
    assert (kept(session), TrustPolicy.objects.count()) == ((1, 2, 1), 0)
    assert Session.objects.half_deleted().get().trust_policy_id is None


def test_a_cluster_in_maintenance_gets_no_calls(owner: User, cluster: RawCluster) -> None:
    cluster.behaviour = saying(NO_CONTENT)
    session = half_deleted(owner)
    close_cluster(cluster="session_management", kind="maintenance", reason="why", by="me")
    closures_cache.current = Closures()  # as in a process that has just begun

    with pytest.raises(CommandError):
        run()
    assert (kept(session), cluster.requests) == ((1, 2, 1), [])
