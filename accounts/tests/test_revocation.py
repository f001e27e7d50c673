"""The cache of revocations in Redis: rebuilt from the database, trusted only while it is complete."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis

from accounts.models import IssuedToken, User
from accounts.tests.test_refresh_faults import failing as failing_writes
from accounts.tokens.issuing import TokenPair, end_all, issue_tokens
from accounts.tokens.revocation import rebuild as rebuilding
from accounts.tokens.revocation.cache import RevocationCache, cache_on
from accounts.tokens.revocation.gates import LateRevocations
from accounts.tokens.revocation.publishing import CHUNK, Entry
from accounts.tokens.revocation.rebuild import rebuild
from accounts.tokens.revocation.revoking import revoke
from accounts.users.locks import lock_user, unlock_user
from conftest import ApiClient, error_code
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.redis.access import Outage, breaker, single_server
from lucid_gateway.kernel.redis.server import Server
from lucid_gateway.policy import keys
from testing.parallel import in_parallel
from testing.redis_monitor import watched_redis
from testing.servers import failing
from testing.waiting import wait_until

FAR = 1e12


def revoked_key(token: IssuedToken) -> str:
    """Return the key that says that the token is revoked."""
    return keys.revoked(token.user_id, token.jti)


@pytest.fixture(autouse=True)
def everything_is_published_in_the_end() -> Iterator[None]:
    """Entries that could not be written during a test are written before the next one."""
    yield
    redis_back()
    for thread in threading.enumerate():
        if thread.name == "revocation":
            thread.join()


@pytest.fixture
def others(owner: User) -> TokenPair:
    """Tokens of another login of the owner."""
    return issue_tokens(owner)


def outcome(api: ApiClient, access: str) -> str:
    """Send a request that needs no database; return `in`, or the code of the refusal."""
    code = error_code(api.send("get", "/chain/info", token=access))
    return "in" if code == "5005" else code


def another_worker() -> None:
    """Behave like a worker that noticed neither an outage nor a revocation."""
    cache_on(single_server).trusted_generation = cache_on(single_server).suspected_generation


def redis_away() -> None:
    breaker.outage = Outage()


def redis_back() -> None:
    breaker.outage = None


def test_a_flush_of_redis_revives_no_revoked_token(
    api: ApiClient, tokens: TokenPair, others: TokenPair, empty_redis: Redis
) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    empty_redis.flushall()

    assert outcome(api, tokens.access) == "2003"
    assert outcome(api, others.access) == "in"


def test_a_flush_of_redis_unlocks_no_account(
    api: ApiClient, owner: User, tokens: TokenPair, empty_redis: Redis
) -> None:
    lock_user(owner, reason="", by="")
    empty_redis.flushall()

    assert outcome(api, tokens.access) == "2005"


def test_the_cache_of_an_earlier_run_of_redis_is_not_trusted(
    api: ApiClient, tokens: TokenPair, empty_redis: Redis
) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    row = IssuedToken.objects.get(kind="access")
    empty_redis.delete(revoked_key(row))
    empty_redis.set(keys.REVOCATIONS_COMPLETE, "0" * 40)

    assert outcome(api, tokens.access) == "2003"


def test_each_entry_expires_after_what_it_revokes(
    owner: User, node_operator: User, tokens: TokenPair, empty_redis: Redis
) -> None:
    end_all(owner)
    lock_user(owner, reason="", by="", until=timezone.now() + timedelta(hours=1))
    empty_redis.flushall()

    assert rebuild() == 3
    others = (b"revocations:", b"revisions:", b"{gateway:", b"worker_reports")  # a running gateway may write these
    written = {key for key in empty_redis.scan_iter() if not key.startswith(others)}
    row = IssuedToken.objects.get(kind="access")
    assert written == {key.encode() for key in (revoked_key(row), keys.locked(owner.pk), keys.epoch(owner.pk))}
    life = settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60
    assert life < empty_redis.ttl(revoked_key(row)) <= life + 3600
    assert 3600 < empty_redis.ttl(keys.locked(owner.pk)) <= 7200
    assert life < empty_redis.ttl(keys.epoch(owner.pk)) <= life + 3600
    assert empty_redis.get(keys.epoch(owner.pk)) == b"2"


def test_the_cache_holds_neither_refresh_tokens_nor_expired_entries(
    owner: User, tokens: TokenPair, empty_redis: Redis
) -> None:
    end_all(owner)
    past = timezone.now() - MAX_CLOCK_SKEW - timedelta(seconds=1)
    IssuedToken.objects.update(expires_at=past)
    User.objects.update(locked_until=past, token_epoch_at=past - timedelta(days=1))
    empty_redis.flushall()

    assert rebuild() == 0


def revoked_rows(owner: User, count: int) -> None:
    """Revoke `count` tokens of the user."""
    later = timezone.now() + timedelta(minutes=5)
    rows = [
        IssuedToken(jti=f"{n:032d}", family=owner.pk, user=owner, kind="access", issued_at=later, expires_at=later)
        for n in range(count)
    ]
    IssuedToken.objects.bulk_create(rows)
    assert revoke(IssuedToken.objects.filter(user=owner, jti__lte=f"{count:032d}")) == count


def test_a_large_cache_is_rebuilt_completely(owner: User, empty_redis: Redis) -> None:
    count = 2 * CHUNK + 1
    revoked_rows(owner, count)
    empty_redis.flushall()

    assert rebuild() == count
    assert len(empty_redis.keys("*:revoked:0*")) == count


def test_a_new_process_rebuilds_the_cache_before_it_trusts_it(
    api: ApiClient, tokens: TokenPair, empty_redis: Redis
) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    empty_redis.delete(revoked_key(IssuedToken.objects.get(kind="access")))
    fresh = RevocationCache(single_server)
    assert fresh.is_suspected

    cache_on(single_server).trusted_generation = fresh.trusted_generation
    assert outcome(api, tokens.access) == "2003"


def test_a_suspicion_during_a_rebuild_outlives_it(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rebuilding.publish

    def publish_meanwhile(server: Server, entries: object, now: int) -> None:
        cache_on(single_server).suspect()
        real(server, [], now=now)

    cache_on(single_server).suspect()
    lock_user(owner, reason="", by="")
    monkeypatch.setattr(rebuilding, "publish", publish_meanwhile)
    rebuild()

    assert cache_on(single_server).is_suspected


@pytest.mark.usefixtures("transactional_db")
def test_many_requests_after_a_flush_rebuild_the_cache_once(tokens: TokenPair) -> None:
    with watched_redis(scripts=True) as commands:
        outcomes = in_parallel(8, lambda _: outcome(ApiClient(HTTP_HOST="testserver"), tokens.access))

    assert outcomes == ["in"] * 8
    assert len([command for command in commands if command.startswith(f"SET {keys.REVOCATIONS_COMPLETE}")]) == 1


def test_while_another_worker_rebuilds_the_cache_the_database_decides_and_redis_counts(
    api: ApiClient, tokens: TokenPair, others: TokenPair, empty_redis: Redis
) -> None:
    api.send("post", "/auth/logout", {}, token=tokens.access)
    empty_redis.flushall()
    empty_redis.set(keys.REBUILD_LEASE, "another worker's", px=60_000)

    with CaptureQueriesContext(connection) as queries:
        assert outcome(api, others.access) == "in"
    assert len(queries) == 1
    assert outcome(api, tokens.access) == "2003"
    assert empty_redis.exists(keys.REBUILD_LEASE)
    assert not empty_redis.exists(keys.REVOCATIONS_COMPLETE)
    assert [int(empty_redis.hget(key, "n") or 0) for key in empty_redis.keys("{user:*}:rate:authenticated")] == [1]


@pytest.mark.usefixtures("transactional_db")
def test_a_large_cache_is_rebuilt_in_the_background(
    api: ApiClient, tokens: TokenPair, others: TokenPair, empty_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_publish = threading.Event()
    real = rebuilding.publish

    def publish_when_allowed(server: Server, entries: list[Entry], now: int) -> None:
        assert may_publish.wait(60)
        real(server, entries, now=now)

    api.send("post", "/auth/logout", {}, token=tokens.access)
    revoked_rows(User.objects.get(), 2 * CHUNK)
    empty_redis.flushall()
    monkeypatch.setattr(rebuilding, "publish", publish_when_allowed)

    assert outcome(api, tokens.access) == "2003"
    assert outcome(api, others.access) == "in"
    may_publish.set()
    wait_until(lambda: bool(empty_redis.exists(keys.REVOCATIONS_COMPLETE)), 60)
    assert empty_redis.exists(revoked_key(IssuedToken.objects.get(jti="0" * 32)))
    assert outcome(api, tokens.access) == "2003"
    with cache_on(single_server).rebuilding:  # the thread has ended
        assert outcome(api, others.access) == "in"


def test_a_retry_publishes_what_a_failed_update_revoked(api: ApiClient, tokens: TokenPair, empty_redis: Redis) -> None:
    assert outcome(api, tokens.access) == "in"
    IssuedToken.objects.update(revoked_at=timezone.now() - timedelta(seconds=2))

    assert api.send("post", "/auth/logout", {}, token=tokens.access).status_code == 200
    assert outcome(api, tokens.access) == "2003"


@pytest.mark.usefixtures("transactional_db")
def test_a_logout_that_was_applied_without_a_majority_takes_effect_at_once(api: ApiClient, tokens: TokenPair) -> None:
    if not settings.ON_MONGODB:
        return  # SQLite has no majority
    assert outcome(api, tokens.access) == "in"
    with failing(settings.ENV.MONGODB_URI, "update", writeConcernError={"code": 64, "errmsg": "no majority"}):
        assert api.send("post", "/auth/logout", {}, token=tokens.access).status_code == 503

    assert outcome(api, tokens.access) == "2003"


@pytest.mark.usefixtures("transactional_db")
def test_after_a_logout_that_failed_the_database_decides_on_its_caller_alone(
    api: ApiClient, tokens: TokenPair, others: TokenPair
) -> None:
    assert outcome(api, tokens.access) == outcome(api, others.access) == "in"
    with failing_writes("update", "refused"):
        assert api.send("post", "/auth/logout", {}, token=tokens.access).status_code == 503

    def queries(token: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert outcome(api, token) == "in"
        return len(captured)

    assert (queries(others.access), queries(tokens.access)) == (0, 1)
    LateRevocations().read()
    assert (queries(others.access), queries(tokens.access)) == (0, 0)


def test_the_cache_on_another_server_is_suspected(tokens: TokenPair, empty_redis: Redis) -> None:
    rebuild()
    late_revocations = LateRevocations()
    late_revocations.run_ids[single_server] = late_revocations.watch(single_server)
    assert not cache_on(single_server).is_suspected

    late_revocations.run_ids[single_server] = "of the server on the other side of a split"
    cache_on(single_server).trusted_run_id = late_revocations.run_ids[single_server].encode()
    late_revocations.run_ids[single_server] = late_revocations.watch(single_server)
    assert cache_on(single_server).is_suspected

    late_revocations.read()  # rebuilds the cache while the database answers
    assert not cache_on(single_server).is_suspected


def test_without_redis_the_database_decides(
    api: ApiClient, owner: User, node_operator: User, tokens: TokenPair, others: TokenPair
) -> None:
    locked = issue_tokens(node_operator)
    api.send("post", "/auth/logout", {}, token=tokens.access)
    lock_user(node_operator, reason="", by="")
    redis_away()

    with CaptureQueriesContext(connection) as queries:
        assert outcome(api, others.access) == "in"
    assert len(queries) == 1
    assert outcome(api, tokens.access) == "2003"
    assert outcome(api, locked.access) == "2005"


def test_without_redis_an_unrecorded_token_and_a_deactivated_user_are_refused(
    api: ApiClient, owner: User, tokens: TokenPair, others: TokenPair
) -> None:
    redis_away()
    IssuedToken.objects.filter(kind="access").first().delete()
    assert sorted([outcome(api, tokens.access), outcome(api, others.access)]) == ["2003", "in"]

    User.objects.update(is_active=False)
    assert outcome(api, tokens.access) == outcome(api, others.access) == "2003"


def test_without_redis_no_request_waits_for_a_rebuild(api: ApiClient, tokens: TokenPair) -> None:
    redis_away()
    cache_on(single_server).suspect()

    with cache_on(single_server).rebuilding:
        assert outcome(api, tokens.access) == "in"


@pytest.mark.usefixtures("transactional_db")
def test_a_revocation_made_without_redis_reaches_workers_that_noticed_no_outage(
    api: ApiClient, tokens: TokenPair, empty_redis: Redis
) -> None:
    assert outcome(api, tokens.access) == "in"
    redis_away()
    api.send("post", "/auth/logout", {}, token=tokens.access)
    redis_back()
    another_worker()

    key = revoked_key(IssuedToken.objects.get(kind="access"))
    wait_until(lambda: empty_redis.exists(key))
    assert outcome(api, tokens.access) == "2003"


def test_a_revocation_made_without_redis_takes_effect_here_as_soon_as_redis_is_back(
    api: ApiClient, tokens: TokenPair
) -> None:
    assert outcome(api, tokens.access) == "in"
    redis_away()
    api.send("post", "/auth/logout", {}, token=tokens.access)
    redis_back()

    assert outcome(api, tokens.access) == "2003"


def test_an_unlock_made_without_redis_takes_effect_in_every_worker(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    lock_user(owner, reason="", by="")
    assert outcome(api, tokens.access) == "2005"
    redis_away()
    unlock_user(owner, by="")
    redis_back()
    another_worker()

    assert outcome(api, issue_tokens(owner).access) == "in"


def test_revoking_counts_what_was_live(owner: User, tokens: TokenPair, others: TokenPair) -> None:
    IssuedToken.objects.filter(kind="refresh").update(expires_at=timezone.now())

    assert revoke(IssuedToken.objects.all()) == 2
    assert revoke(IssuedToken.objects.all()) == 0


def test_revoking_again_keeps_the_first_time(owner: User, tokens: TokenPair) -> None:
    end_all(owner)
    first = set(IssuedToken.objects.values_list("revoked_at", flat=True))
    end_all(owner)

    assert set(IssuedToken.objects.values_list("revoked_at", flat=True)) == first
