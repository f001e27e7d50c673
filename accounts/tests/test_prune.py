"""manage.py prune deletes expired and old rows, and nothing else."""

import io
import json
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts import prune
from accounts.models import ApiKey, IssuedToken, SigningKey, User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient
from lucid_gateway.audit.models import AuditEvent

DAY = timedelta(days=1)


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("prune", *arguments, stdout=output)
    return output.getvalue().strip()


def pruned(*arguments: str) -> dict[str, int]:
    """Return the numbers of deleted rows by task name, without zeros."""
    counts: dict[str, int] = json.loads(run("--json", *arguments))
    return {name: count for name, count in counts.items() if count}


def token(user: User, ends: datetime, **fields: Any) -> IssuedToken:
    return IssuedToken.objects.create(
        jti=uuid.uuid4().hex,
        family=uuid.uuid4(),
        user=user,
        kind="access",
        issued_at=ends - DAY,
        expires_at=ends,
        **fields,
    )


def event(moment: datetime) -> AuditEvent:
    return AuditEvent.objects.create(type="logout", created_at=moment)


def task_named(name: str) -> prune.PruneTask:
    return next(task for task in prune.prune_tasks() if task.name == name)


def in_a_thread(call: Callable[[], object]) -> None:
    """Call the function on a thread with its own database connection."""
    try:
        call()
    finally:
        connection.close()


def test_tokens_are_deleted_a_week_after_they_expired(owner: User) -> None:
    now = timezone.now()
    token(owner, now - 7 * DAY - timedelta(minutes=1))
    kept = {token(owner, now - 7 * DAY + timedelta(minutes=1)).pk, token(owner, now + DAY, revoked_at=now - 9 * DAY).pk}

    assert pruned() == {"tokens": 1}
    assert set(IssuedToken.objects.values_list("pk", flat=True)) == kept


def test_live_tokens_still_work(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    token(owner, timezone.now() - 30 * DAY)
    assert pruned() == {"tokens": 1}

    assert api.send("get", "/users/me", token=tokens.access).status_code == 200
    assert api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh}).status_code == 200


def test_a_revoked_token_stays_revoked(api: ApiClient, tokens: TokenPair) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    pruned()

    assert api.send("get", "/users/me", token=tokens.access).status_code == 401


def test_api_keys_are_deleted_a_week_after_they_ended(owner: User) -> None:
    now = timezone.now()
    times: dict[str, dict[str, datetime]] = {
        "expired": {"expires_at": now - 8 * DAY}, "revoked": {"revoked_at": now - 8 * DAY},
        "lately-1": {"expires_at": now - 6 * DAY}, "lately-2": {"revoked_at": now - 6 * DAY}, "live": {},
    }  # fmt: skip
    for name, ended in times.items():
        ApiKey.objects.create(key_id=name, user=owner, name=name, **ended)

    assert pruned() == {"api_keys": 1, "api_keys_revoked": 1}
    assert set(ApiKey.objects.values_list("key_id", flat=True)) == {"lately-1", "lately-2", "live"}


def test_audit_events_are_deleted_after_their_retention(db: None, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"AUDIT_RETENTION_DAYS": 30})
    now = timezone.now()
    event(now - 30 * DAY - timedelta(minutes=1))
    kept = event(now - 30 * DAY + timedelta(minutes=1))

    assert pruned() == {"audit_events": 1}
    assert AuditEvent.objects.filter(pk=kept.pk).exists()
    assert AuditEvent.objects.get(type="pruned").details["deleted"]["audit_events"] == 1


def test_signing_keys_are_never_deleted(db: None) -> None:
    long_ago = timezone.now() - 400 * DAY
    SigningKey.objects.create(kid="k", algorithm="HS256", secret="", state="revoked", revoked_at=long_ago)

    assert pruned() == {}
    assert SigningKey.objects.count() == 1


def test_a_dry_run_counts_and_deletes_nothing(owner: User) -> None:
    token(owner, timezone.now() - 30 * DAY)

    assert pruned("--dry-run") == {"tokens": 1}
    assert run("--dry-run").startswith("would delete: 1 tokens, 0 api keys")
    assert IssuedToken.objects.count() == 1
    assert not AuditEvent.objects.exists()


def test_the_numbers_are_printed_in_one_line(owner: User) -> None:
    token(owner, timezone.now() - 30 * DAY)

    assert run().startswith("deleted: 1 tokens, 0 api keys, 0 api keys revoked, ")
    assert run().startswith("deleted: 0 tokens")


def test_a_run_without_deletions_is_not_recorded(owner: User) -> None:
    issue_tokens(owner)

    assert pruned() == {}
    assert not AuditEvent.objects.filter(type="pruned").exists()


def test_many_rows_are_deleted_in_batches(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    for _ in range(5):
        token(owner, timezone.now() - 30 * DAY)

    assert list(task_named("tokens").run()) == [2, 2, 1]
    assert not IssuedToken.objects.exists()


def test_the_oldest_rows_go_first_and_rows_of_the_same_time_all_go(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    then = timezone.now() - 400 * DAY
    old = {event(then + timedelta(hours=hours)).pk: hours for hours in (3, 1, 2, 0, 1, 1)}
    gone, left = [], set(old)
    for _ in task_named("audit_events").run():
        still = set(AuditEvent.objects.values_list("pk", flat=True))
        gone.append(sorted(old[key] for key in left - still))
        left = still

    assert gone == [[0, 1], [1, 1], [2, 3]]


@pytest.mark.parametrize("since", [False, True], ids=["first batch", "later batch"])
@pytest.mark.parametrize("name", ["tokens", "api_keys", "api_keys_revoked", "sessions", "audit_events"])
def test_a_batch_is_an_ordered_index_range(db: None, name: str, since: bool) -> None:
    task = task_named(name)
    plan = task.oldest(timezone.now() - 300 * DAY if since else None).explain()

    if settings.ON_MONGODB:
        chosen = plan[: plan.index('"rejectedPlans"')]
        assert f'"{task.column}"' in chosen[chosen.index("keyPattern") :]
        assert '"SORT"' not in chosen
    else:
        assert f"({task.column}" in plan  # a range of it
        assert "TEMP B-TREE" not in plan


@pytest.mark.django_db(transaction=True)
def test_others_can_write_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 1)
    for days in (300, 200):
        event(timezone.now() - days * DAY)
    with ThreadPoolExecutor(1) as thread:
        for _ in task_named("audit_events").run():
            thread.submit(in_a_thread, lambda: event(timezone.now())).result(timeout=20)

    assert AuditEvent.objects.count() == 2


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_progress_is_shown_only_on_a_terminal(
    owner: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_a_terminal: bool
) -> None:
    token(owner, timezone.now() - 30 * DAY)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_a_terminal)
    run()

    assert ("tokens: 100%" in capsys.readouterr().err) is on_a_terminal
