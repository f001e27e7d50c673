"""A preview decides as a real request is decided, names the same steps, and changes nothing."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts.api_keys import create_api_key
from accounts.models import ApiKey, User
from accounts.tests.test_rbac import CALLERS, FORWARDED, ROWS, target_of
from accounts.tokens.issuing import issue_tokens
from accounts.users.locks import lock_user
from conftest import ApiClient, error_code, make_user
from lucid_gateway.console.preview.case import PreviewCase
from lucid_gateway.console.preview.decision import Preview, preview
from lucid_gateway.console.preview.question import Question
from lucid_gateway.console.preview.steps import State, StepView, steps_of
from lucid_gateway.explorer.words import plain
from lucid_gateway.kernel.redis.access import Outage, breaker, redis_client
from lucid_gateway.operators.buttons import Button
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.roles import PERMISSIONS, Role
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.closures import closures_cache
from proxy.choosing.instances import states_of
from proxy.choosing.reports import write_report
from proxy.clusters import cluster_named
from proxy.models import Maintenance
from ratelimit.addresses.floods import floods
from ratelimit.engine.limits import default_byte_limit, default_limit
from ratelimit.engine.shadow import shadow_subjects
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import observations, refusals, rules_cache
from testing.redis_monitor import watched_redis

pytestmark = pytest.mark.django_db
ADDRESS = "192.0.2.7"
CHAIN = "/api/v1/chain/info"
CLUSTER = "blockchain_core"
OPERATOR = User(role=Role.SUPER_ADMIN)
PAST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh_limits(frozen_minute: int) -> Iterator[None]:
    default_limit.cache_clear()
    default_byte_limit.cache_clear()
    yield
    default_limit.cache_clear()
    default_byte_limit.cache_clear()


def ask(path: str = CHAIN, method: str = "GET", **who: Any) -> Preview:
    return preview(Question(method, path, **who))


def step(found: Preview, name: Step) -> StepView:
    return next(step for step in steps_of(PreviewCase(found)) if step.step == name)


def states(found: Preview) -> dict[str, str]:
    """Return the steps that were asked, with their states."""
    return {str(step.step): str(step.state) for step in steps_of(PreviewCase(found)) if step.state != State.NOT_ASKED}


def sentence(found: Preview) -> str:
    return plain(PreviewCase(found).sentence)


def buttons(found: Preview) -> list[Button]:
    """Return the buttons that a super admin sees."""
    return PreviewCase(found, by=OPERATOR).explanation.buttons


def labels(found: Preview) -> list[str]:
    return [button.label for button in buttons(found)]


def set_rule(**fields: Any) -> LimitRule:
    rule = LimitRule.objects.create(**fields)
    rules_cache.load()
    return rule


def report(*, in_flight: int = 0) -> None:
    """Report this process's view of the cluster, as each worker does every second."""
    for state in states_of(cluster_named(CLUSTER)):
        state.in_flight += in_flight
    write_report(states_of(cluster_named(CLUSTER)))
    for state in states_of(cluster_named(CLUSTER)):
        state.in_flight -= in_flight


# The table of access.


def caller_fields(caller: str) -> dict[str, Any]:
    """Return whose request the preview is about; the callers are those of the table."""
    if caller == "anonymous":
        return {"address": ADDRESS}
    by_key = caller.endswith("_key")
    role, name = Role.SUPER_ADMIN if by_key else Role(caller), caller.replace("_", "-")
    user = User.objects.active_user(username=name) or make_user(name, role)
    if not by_key:
        return {"user": user}
    permissions = sorted(PERMISSIONS[role]) if caller == "all_key" else ["blockchain:read"]
    return {"key": create_api_key(user, name=caller, permissions=permissions)[0]}


@pytest.mark.urls("testing.every_route")
@pytest.mark.parametrize("caller", CALLERS)
def test_each_caller_is_let_in_where_the_table_of_access_says(caller: str) -> None:
    who, found = caller_fields(caller), {}

    for method, path in ROWS:
        error = ask(target_of(path), method, **who).error
        unconfigured = path.startswith(FORWARDED) and error is not None and error.reason == "cluster_not_configured"
        found[method, path] = "+" if error is None or unconfigured else {401: ".", 403: "x"}.get(error.status, error)

    assert found == {row: marks[CALLERS.index(caller)] for row, marks in ROWS.items()}


# Beside real requests: each state is staged, previewed, and then asked by a request.


def send_one(user: User) -> None:
    """Send a request of the user that is admitted and counted."""
    client = ApiClient(HTTP_HOST="testserver")
    assert client.send("get", "/users/me", token=issue_tokens(user).access).status_code == 200


def deny(owner: User) -> None:
    AddressRule.objects.create(network="192.0.2.0/24", kind="deny", reason="scans")
    rules_cache.load()


def block(owner: User) -> None:
    AddressRule.objects.create(
        network="192.0.2.0/24", kind="blocked", reason="flood", expires_at=timezone.now() + timedelta(hours=9)
    )
    rules_cache.load()


def lock(owner: User) -> None:
    lock_user(owner, until=timezone.now() + timedelta(days=1), reason="stolen laptop", by="ada@example.org")


def use_up(owner: User) -> None:
    set_rule(tier="authenticated", subject=f"user:{owner.pk}", limit=1, burst=0)
    send_one(owner)


def use_up_quota(owner: User) -> None:
    set_rule(tier="all", subject=f"user:{owner.pk}", daily_quota=1)
    send_one(owner)


def use_up_in_shadow_mode(owner: User) -> None:
    use_up(owner)
    LimitRule.objects.update(observe_only=True)
    rules_cache.load()


def close(owner: User) -> None:
    Maintenance.objects.create(cluster=CLUSTER, kind="maintenance", reason="upgrade", starts_at=timezone.now())
    closures_cache.load()


def nothing(owner: User) -> None:
    pass


STAGED: list[tuple[Callable[[User], None], str, str]] = [
    (nothing, "GET", "/api/v1/users/me"),
    (nothing, "GET", "/api/v1/users/me/"),
    (nothing, "GET", "/api/v1/admin/users"),
    (nothing, "GET", "/api/v1/nothing-here"),
    (nothing, "GET", "/api/v1/users//me"),
    (nothing, "GET", "/api/v1/users/%2e%2e/me"),
    (nothing, "GET", "/api/v1/%63hain/info"),
    (nothing, "POST", "/api/v1/chain/info"),
    (nothing, "POST", "/api/v1/chain/transactions"),
    (nothing, "DELETE", "/api/v1/meta/info"),
    (nothing, "PATCH", "/api/v1/admin/users"),
    (nothing, "GET", "/api/v1/meta/health/live"),
    (lock, "GET", "/api/v1/users/me"),
    (lock, "GET", "/api/v1/meta/info"),
    (use_up, "GET", "/api/v1/users/me"),
    (use_up, "GET", "/api/v1/admin/users"),
    (use_up, "GET", "/api/v1/chain/blocks"),
    (use_up_quota, "GET", "/api/v1/chain/blocks"),
    (use_up_in_shadow_mode, "GET", "/api/v1/users/me"),
    (close, "GET", "/api/v1/chain/info"),
    (close, "GET", "/api/v1/wallets"),
]
UPSTREAM = {"5005"}  # nobody listens: the request got as far as an instance


@pytest.mark.parametrize(("stage", "method", "path"), STAGED, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_preview_decides_as_the_request_is_decided(
    api: ApiClient, owner: User, stage: Callable[[User], None], method: str, path: str
) -> None:
    token = issue_tokens(owner).access
    stage(owner)

    said = ask(path, method, user=owner, address=ADDRESS)
    answer = api.generic(method, path, headers={"Authorization": f"Bearer {token}"}, REMOTE_ADDR=ADDRESS)

    code = error_code(answer) if answer.status_code >= 400 else None
    if said.error is None:
        assert code is None or code in UPSTREAM
    else:
        assert (said.error.status, said.error.code) == (answer.status_code, f"LUCID_ERR_{code}")
        assert said.error.headers.get("Retry-After") == answer.headers.get("Retry-After")
    record = answer.wsgi_request.META["lucid.record"]
    staged = {Step.ADDRESS_RULE, Step.MAINTENANCE, Step.BULKHEAD, Step.ATTEMPT, Step.ANSWER}
    taken = {(found.step, str(found.outcome), found.reason) for found in record.steps if found.step not in staged}
    assert {
        (found.step, str(found.outcome), found.reason) for found in said.record.steps if found.step not in staged
    } == taken


@pytest.mark.parametrize("rule", [deny, block])
def test_the_rules_of_addresses_come_first(owner: User, rule: Callable[[User], None]) -> None:
    rule(owner)

    said = ask(user=owner, address=ADDRESS)

    assert said.error is not None
    assert said.error.status == (403 if rule is deny else 429)
    assert states(said) == {"address_rule": "refused"}
    assert "192.0.2.0/24" in sentence(said)
    assert labels(said)[:2] == ["Lift the rule for 192.0.2.0/24…", "Change the rule…"]
    assert ask(user=owner, address="198.51.100.1").error is None
    assert ask(user=owner).error is None


def test_a_rule_of_addresses_in_shadow_mode_lets_in_and_says_so(owner: User) -> None:
    rule = AddressRule.objects.create(network="192.0.2.0/24", kind="deny", reason="scans", observe_only=True)
    rules_cache.load()

    said = ask(user=owner, address=ADDRESS)

    assert said.error is None
    assert step(said, Step.ADDRESS_RULE).state == State.OBSERVED
    assert "Without shadow mode it would be refused by: address." in sentence(said)
    lift, change, *_ = buttons(said)
    assert lift.fields is not None
    assert (lift.fields["action"], lift.fields["_selected_action"]) == ("lift", str(rule.pk))
    assert change.url == f"/admin/ratelimit/addressrule/{rule.pk}/change/"
    assert (observations.counts, shadow_subjects.waiting) == ({}, {})


def test_an_address_over_its_limit_is_refused_before_its_missing_credential_is(api: ApiClient) -> None:
    set_rule(tier="public", limit=1, burst=0)
    assert ask("/api/v1/users/me", address=ADDRESS).error.reason == "credentials_missing"  # type: ignore[union-attr]
    assert api.send("get", "/meta/info", REMOTE_ADDR=ADDRESS).status_code == 200

    said = [ask(path, address=ADDRESS).error for path in ("/api/v1/users/me", "/api/v1/nothing", "/api/v1/meta/info")]
    real = [api.send("get", path, REMOTE_ADDR=ADDRESS) for path in ("/users/me", "/nothing", "/meta/info")]

    assert [error.status for error in said if error] == [answer.status_code for answer in real] == [429] * 3


def test_login_attempts_have_a_limit_of_their_own(api: ApiClient) -> None:
    set_rule(tier="login_attempt", limit=1, burst=0)
    assert ask("/api/v1/auth/login", "POST", address=ADDRESS).error is None
    api.send("post", "/auth/login", {"email": "nobody@example.org"}, REMOTE_ADDR=ADDRESS)

    said = ask("/api/v1/auth/login", "POST", address=ADDRESS)

    assert said.error is not None
    assert said.error.status == api.send("post", "/auth/login", {}, REMOTE_ADDR=ADDRESS).status_code == 429
    assert ask("/api/v1/auth/verify", "POST", address=ADDRESS).error is None


def test_an_allowed_network_has_no_limit_by_address(api: ApiClient) -> None:
    set_rule(tier="public", limit=1, burst=0)
    AddressRule.objects.create(network=ADDRESS + "/32", kind="allow", reason="office")
    rules_cache.load()
    assert [api.send("get", "/meta/info", REMOTE_ADDR=ADDRESS).status_code for _ in range(3)] == [200] * 3

    said = ask("/api/v1/meta/info", address=ADDRESS)

    assert said.error is None
    assert "no limits by address apply" in step(said, Step.ADDRESS_RULE).text


def with_key(owner: User, **fields: Any) -> ApiKey:
    key, _ = create_api_key(owner, name="indexer", permissions=["blockchain:read"])
    ApiKey.objects.filter(pk=key.pk).update(**fields)
    return ApiKey.objects.select_related("user").get(pk=key.pk)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"revoked_at": PAST}, "api_key_unknown"),
        ({"suspended_at": PAST}, "api_key_suspended"),
        ({"expires_at": PAST}, "api_key_expired"),
        ({"permissions": ["wallet:read"]}, "permission_missing"),
    ],
    ids=str,
)
def test_an_api_key_is_judged_by_its_row(owner: User, fields: dict[str, Any], reason: str | None) -> None:
    said = ask(key=with_key(owner, **fields))

    assert (said.error.reason if said.error else None) == reason
    assert ("Open the API key" in labels(said)) == (reason is not None)


def test_an_api_key_may_not_manage_credentials(owner: User) -> None:
    said = ask("/api/v1/users/me/api-keys", key=with_key(owner))

    assert sentence(said).startswith("It would be refused with 403: ")
    assert "The API key indexer may not do this: only a signed-in user may, with an access token." in sentence(said)


def test_a_deleted_user_is_refused(owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(is_active=False)

    said = ask(user=User.objects.get(pk=owner.pk))

    assert said.error is not None
    assert (said.error.status, said.error.reason) == (401, "account_deleted")


def test_a_lock_is_explained_and_can_be_lifted(owner: User) -> None:
    lock(owner)

    said = ask(user=owner)

    assert sentence(said).startswith(
        "It would be refused with 401: the account of owner@example.org is locked. ada@example.org locked it at "
    )
    assert sentence(said).endswith(": “stolen laptop”.")
    first, *_ = buttons(said)
    assert first.label == "Unlock the account…"
    assert first.fields is not None
    assert first.fields["_selected_action"] == str(owner.pk)


def test_a_used_up_tier_is_explained_and_leads_to_its_rule(owner: User) -> None:
    use_up(owner)

    said = ask("/api/v1/users/me", user=owner)

    assert sentence(said).startswith(
        "It would be refused with 429: the limit of the tier authenticated was used up. The user owner@example.org may "
        "send 1 request a minute and 0 beyond that."
    )
    assert "The numbers come from an operator's rule." in sentence(said)
    assert labels(said)[:2] == ["Change the rule…", "Lift the rule…"]


def test_the_limit_of_the_environment_leads_to_a_new_rule_for_the_caller(settings: Settings, owner: User) -> None:
    update = {"RATE_LIMIT_AUTHENTICATED_REQUESTS_PER_MINUTE": 1, "RATE_LIMIT_AUTHENTICATED_BURST_SIZE": 0}
    settings.ENV = settings.ENV.model_copy(update=update)
    send_one(owner)

    remedy, *_ = buttons(ask("/api/v1/users/me", user=owner))

    assert remedy.label == "Raise the limit of this user…"
    assert remedy.url == f"/admin/ratelimit/limitrule/add/?tier=authenticated&subject=user%3A{owner.pk}"


def test_shadow_mode_lets_in_and_says_what_it_would_refuse(owner: User) -> None:
    use_up_in_shadow_mode(owner)

    said = ask("/api/v1/users/me", user=owner)

    assert said.error is None
    assert step(said, Step.RATE_LIMIT).state == State.OBSERVED
    assert "Without shadow mode it would be refused by: limit." in sentence(said)
    assert labels(said)[:2] == ["Change the rule…", "Lift the rule…"]


def test_quota_and_concurrency_say_what_is_used(owner: User) -> None:
    set_rule(tier="all", subject=f"user:{owner.pk}", daily_quota=50, concurrent_requests=7)
    send_one(owner)

    said = ask(user=owner)

    assert step(said, Step.QUOTA).text == "1 of 50 requests used today (UTC)"
    assert step(said, Step.CONCURRENCY).text == "0 of 7 requests in progress"


def test_an_upload_is_looked_at_in_bytes(owner: User) -> None:
    said = ask(f"/api/v1/sessions/{uuid.uuid4()}/chunks", "POST", user=owner)

    assert said.error is None
    assert said.route is not None
    assert step(said, Step.BANDWIDTH).text.startswith("10.0 MiB a second 20.0 MiB may pass at once.")
    assert "more than 10.0 MiB would be refused" in step(said, Step.PATH).text
    listed = ask(f"/api/v1/sessions/{uuid.uuid4()}/chunks", user=owner)
    assert (listed.route, step(listed, Step.BANDWIDTH).state) == (None, State.NOT_ASKED)


# The cluster, as the workers report it.


def test_without_reports_the_cluster_is_unknown(owner: User) -> None:
    said = ask(user=owner)

    assert (step(said, Step.BULKHEAD).state, step(said, Step.ATTEMPT).state) == (State.UNKNOWN, State.UNKNOWN)
    assert "Not known: cluster, instance." in sentence(said)


def test_the_instances_that_would_be_asked_are_named(owner: User) -> None:
    report()

    said = ask(user=owner)

    assert sentence(said) == f"It would be let in, and sent to the cluster {CLUSTER}."
    [instance] = cluster_named(CLUSTER).instances
    assert step(said, Step.ATTEMPT).text == f"{instance.url} would be asked. Nothing was sent."


def test_full_workers_refuse(owner: User) -> None:
    report(in_flight=bulkhead_of(CLUSTER).places)

    said = ask(user=owner)

    assert said.error is not None
    assert (said.error.status, said.error.reason) == (503, "cluster_busy")
    assert labels(said)[0] == "Look at the clusters"


def test_open_breakers_refuse_until_one_admits_a_probe(owner: User) -> None:
    [state] = states_of(cluster_named(CLUSTER))
    try:
        state.breaker.open(300)
        report()
        said = ask(user=owner)
    finally:
        state.breaker.close()

    assert said.error is not None
    assert (said.error.status, said.error.reason) == (503, "breaker_open")
    assert 200 < (said.error.retry_after or 0) <= 300


# What Redis cannot say.


def test_without_redis_the_database_decides_and_the_limits_are_unknown(owner: User) -> None:
    breaker.outage = Outage()

    said = ask("/api/v1/users/me", user=owner, address=ADDRESS)

    assert said.error is None
    assert step(said, Step.RATE_LIMIT).state == State.UNKNOWN
    assert "Redis is unavailable" in step(said, Step.RATE_LIMIT).text


def test_without_redis_a_locked_account_is_still_refused(owner: User) -> None:
    lock(owner)
    breaker.outage = Outage()

    assert ask(user=User.objects.get(pk=owner.pk)).error.reason == "account_locked"  # type: ignore[union-attr]


# Nothing changes.


def dump() -> dict[bytes, bytes | None]:
    redis = redis_client()
    return {name: redis.dump(name) for name in redis.scan_iter(count=1_000)}


@pytest.mark.parametrize("stage", [nothing, deny, block, lock, use_up, use_up_quota, use_up_in_shadow_mode, close])
def test_a_preview_changes_nothing(owner: User, stage: Callable[[User], None]) -> None:
    stage(owner)
    report()
    key, questions = with_key(owner), []
    for method, path in ROWS:
        questions += [(method, target_of(path), fields) for fields in ({"user": owner}, {"key": key}, {})]
    before, counted, known = dump(), dict(refusals.counts), dict(floods._floods)

    def ask_all() -> None:
        for method, target, fields in questions:
            found = ask(target, method, address=ADDRESS, **fields)
            sentence(found), PreviewCase(found, by=OPERATOR).explanation

    ask_all()  # the first use of a script loads it, and asks who the server is
    with CaptureQueriesContext(connection) as queries, watched_redis(scripts=True) as commands:
        ask_all()

    assert dump() == before
    assert (dict(refusals.counts), dict(floods._floods)) == (counted, known)
    assert all(re.match(r"SELECT |db\.\w+\.aggregate\(", query["sql"]) for query in queries)
    reads = {"EVALSHA", "MGET", "TIME", "ZCOUNT", "HMGET", "HGETALL"}
    assert {command.split()[0] for command in commands} <= reads


def test_a_preview_leaves_the_record_of_the_request_in_progress_alone(api: ApiClient, admin: User, owner: User) -> None:
    lock(owner)
    body = {"user_id": str(owner.pk), "method": "GET", "path": CHAIN}

    answer = api.send("post", "/admin/preview", body, token=issue_tokens(admin).access)

    record = answer.wsgi_request.META["lucid.record"]
    assert answer.json()["reason"] == "account_locked"
    assert (record.reason, record.facts, record.claim.user_id) == (None, None, str(admin.pk))
