"""Late revocations: a worker reads them from the database and refuses their callers itself."""

from datetime import timedelta

import pytest
from django.utils import timezone
from redis import Redis

from accounts.models import IssuedToken, User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.revocation import gates
from accounts.tokens.revocation.gates import OVERLAP, LateRevocations
from accounts.users.locks import lock_user, unlock_user
from conftest import ApiClient, error_code
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.policy import keys


@pytest.fixture
def late_revocations(monkeypatch: pytest.MonkeyPatch) -> LateRevocations:
    """The late revocations of a worker that has read once, before anything was revoked."""
    fresh = LateRevocations()
    monkeypatch.setattr("accounts.tokens.revocation.gates.late_revocations", fresh)
    monkeypatch.setattr("accounts.tokens.revocation.revoking.late_revocations", fresh)
    fresh.read()
    return fresh


def revoke_elsewhere(**age: float) -> str:
    """Revoke the access token only in the database, as a gateway without Redis does; return its key in Redis."""
    row = IssuedToken.objects.get(kind="access")
    IssuedToken.objects.filter(pk=row.pk).update(revoked_at=timezone.now() - timedelta(**age))
    return keys.revoked(row.user_id, row.jti)


def outcome(api: ApiClient, access: str) -> str:
    """Return `in`, or the code of the refusal."""
    answer = api.send("get", "/users/me", token=access)
    return "in" if answer.status_code == 200 else error_code(answer)


def test_a_token_revoked_elsewhere_is_refused_and_its_entry_written_to_redis(
    api: ApiClient, tokens: TokenPair, late_revocations: LateRevocations, empty_redis: Redis
) -> None:
    assert outcome(api, tokens.access) == "in"
    key = revoke_elsewhere()
    late_revocations.read()

    assert empty_redis.exists(key)
    empty_redis.delete(key)
    assert outcome(api, tokens.access) == "2003"


def test_a_revocation_that_becomes_visible_late_is_read(
    api: ApiClient, tokens: TokenPair, late_revocations: LateRevocations
) -> None:
    assert outcome(api, tokens.access) == "in"
    revoke_elsewhere(seconds=OVERLAP.total_seconds() / 2)
    late_revocations.read()

    assert outcome(api, tokens.access) == "2003"


def test_ended_epochs_and_locks_are_read_and_locks_checked_in_the_database(
    api: ApiClient, owner: User, tokens: TokenPair, late_revocations: LateRevocations, empty_redis: Redis
) -> None:
    assert outcome(api, tokens.access) == "in"
    lock_user(owner, reason="", by="")
    empty_redis.delete(keys.locked(owner.pk), keys.epoch(owner.pk))
    late_revocations.read()
    empty_redis.delete(keys.locked(owner.pk), keys.epoch(owner.pk))

    assert outcome(api, tokens.access) == "2005"
    User.objects.update(locked_until=None)  # as another worker does
    assert outcome(api, tokens.access) == "2003"
    owner.refresh_from_db()
    assert outcome(api, issue_tokens(owner).access) == "in"
    assert keys.locked(owner.pk) not in late_revocations.entries


def test_an_unlock_drops_the_entry_of_the_lock(owner: User, late_revocations: LateRevocations) -> None:
    lock_user(owner, reason="", by="")
    late_revocations.read()
    unlock_user(owner, by="")

    assert keys.locked(owner.pk) not in late_revocations.entries


def test_a_known_entry_is_not_written_to_redis_again(
    tokens: TokenPair, late_revocations: LateRevocations, empty_redis: Redis
) -> None:
    key = revoke_elsewhere()
    late_revocations.read()
    empty_redis.delete(key)
    late_revocations.read()

    assert not empty_redis.exists(key)


def test_a_database_clock_that_was_set_back_hides_no_revocation(
    api: ApiClient, tokens: TokenPair, late_revocations: LateRevocations
) -> None:
    assert outcome(api, tokens.access) == "in"
    late_revocations.read_at = timezone.now() + timedelta(hours=1)
    revoke_elsewhere()
    late_revocations.read()

    assert outcome(api, tokens.access) == "2003"


def test_entries_are_dropped_once_they_have_ended_by_every_clock(
    tokens: TokenPair, late_revocations: LateRevocations, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = revoke_elsewhere()
    late_revocations.read()
    monkeypatch.setattr(gates, "SWEEP_SECONDS", 0.0)
    late_revocations.read()
    assert key in late_revocations.entries

    ended = timezone.now() - MAX_CLOCK_SKEW - timedelta(seconds=1)
    late_revocations.entries = {key: entry._replace(ends=ended) for key, entry in late_revocations.entries.items()}
    late_revocations.sweep()
    assert late_revocations.entries == {}
