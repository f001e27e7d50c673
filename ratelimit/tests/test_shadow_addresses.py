"""Shadow mode of address rules: nobody is refused, and whom the rule would have refused is counted."""

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils import timezone
from redis import Redis

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import signed_in
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import RequestRecord, current
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy import keys
from lucid_gateway.policy.roles import Role
from ratelimit.addresses.front_gate import AddressGate, note_observed_caller
from ratelimit.engine import shadow
from ratelimit.engine.shadow import (
    ShadowSubjects,
    name_of,
    network_scope,
    note_shadow_refusal,
    shadow_subjects,
    shadow_subjects_today,
    tier_scope,
    today,
)
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import address_verdict, observations, observing_rule, refusals, rules_cache, rules_of
from ratelimit.ruling import set_address_rule

ADDRESS, NETWORK = "192.0.2.7", "192.0.2.0/24"
SCOPE = network_scope(NETWORK)


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    refusals.counts, observations.counts, shadow_subjects.waiting = {}, {}, {}


def rule(network: str = NETWORK, kind: str = "deny", *, observe_only: bool = True) -> AddressRule:
    return AddressRule(network=network, kind=kind, reason="a test", observe_only=observe_only)


def hold(*rules: AddressRule) -> None:
    """Let the process hold these rules."""
    rules_cache.current = rules_of({}, rules)


def knock(address: str = ADDRESS) -> RequestRecord:
    """Let a request of the address come to the front gate; return its record, in which a refusal has an error code."""
    record = RequestRecord()
    AddressGate(lambda environ, start_response: []).refusal_to(address, [], record)
    return record


def steps(record: RequestRecord) -> list[tuple[str, str, str | None]]:
    return [(str(step.step), str(step.outcome), step.reason) for step in record.steps]


@pytest.mark.parametrize(("kind", "reason"), [("deny", "address_denied"), ("blocked", "address_blocked")])
def test_a_rule_in_shadow_mode_refuses_nobody_and_says_what_it_would_do(kind: str, reason: str) -> None:
    observing = rule(kind=kind)
    observing.expires_at = timezone.now() + timedelta(hours=9) if kind == "blocked" else None
    hold(observing)

    record = knock()

    assert record.error_code is None
    assert steps(record) == [("address_rule", "observed", reason)]
    assert record.observed_rule == NETWORK
    assert observations.counts == {NETWORK: 1}
    assert refusals.counts == {}


def test_an_address_outside_the_network_passes_unobserved() -> None:
    hold(rule())

    assert steps(knock("198.51.100.1")) == [("address_rule", "passed", None)]
    assert observations.counts == {}


def test_a_rule_in_shadow_mode_hides_no_other_rule() -> None:
    hold(rule("192.0.0.0/16", observe_only=False), rule(), rule("192.0.2.7/32", "allow", observe_only=False))

    assert knock("192.0.2.8").reason == "address_denied"
    assert refusals.counts == {"192.0.0.0/16": 1}
    allowed = address_verdict(ADDRESS)
    assert allowed is not None
    assert allowed.kind == "allow"
    assert observing_rule(ADDRESS) is None  # the narrower rule would still allow it


def test_an_address_that_is_refused_anyway_is_not_observed() -> None:
    hold(rule("192.0.0.0/16", observe_only=False), rule())

    knock()

    assert observations.counts == {}


def test_addresses_are_counted_by_the_day(empty_redis: Redis) -> None:
    hold(rule())
    for address in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
        knock(address)
    assert shadow_subjects_today(SCOPE) == []

    shadow_subjects.write()

    assert shadow_subjects_today(SCOPE) == [("ip:192.0.2.7", 2), ("ip:192.0.2.8", 1)]
    assert shadow_subjects_today(SCOPE, 1) == [("ip:192.0.2.7", 2)]
    assert shadow_subjects_today(network_scope("198.51.100.0/24")) == []
    assert 0 < empty_redis.ttl(keys.shadow_subjects(today(), SCOPE)) <= shadow.KEPT_SECONDS


def test_an_ipv6_address_counts_as_its_network() -> None:
    hold(rule("2001:db8::/32"))
    for number in (1, 2):
        knock(f"2001:db8::{number}")
    shadow_subjects.write()

    assert shadow_subjects_today(network_scope("2001:db8::/32")) == [("ip:2001:db8::/64", 2)]


def test_the_user_is_counted_once_it_is_known() -> None:
    hold(rule())
    record = knock()
    user = Caller("11111111-1111-4111-8111-111111111111", Role.USER, "a" * 32, "", 0)

    note_observed_caller(record, user)
    note_observed_caller(knock("198.51.100.1"), user)
    shadow_subjects.write()

    assert dict(shadow_subjects_today(SCOPE)) == {"ip:192.0.2.7": 1, f"user:{user.user_id}": 1}


def test_authentication_says_who_the_caller_is(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    _, key = create_api_key(owner, name="script", permissions=["user:read"])
    for headers in ({"Authorization": f"Bearer {tokens.access}"}, {"X-API-Key": key}):
        record = RequestRecord(client_address=ADDRESS)
        record.observed_rule = NETWORK
        assert api.send("get", "/users/me", headers=headers, **{"lucid.record": record}).status_code == 200

    assert [name.partition(":")[0] for _, name in shadow_subjects.waiting] == ["user", "key"]


def test_the_counts_are_written_to_the_row(db: None) -> None:
    rule().save()
    rules_cache.load()
    for _ in range(3):
        knock()

    observations.write()
    observations.write()

    row = AddressRule.objects.get(network=NETWORK)
    assert (row.observed, row.refused) == (3, 0)


def test_only_the_subjects_with_the_most_refusals_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MAX_SUBJECTS", 3)
    counts = ShadowSubjects()
    for number, times in enumerate([5, 1, 4, 3, 2]):
        for _ in range(times):
            counts.add(SCOPE, f"ip:192.0.2.{number}")

    counts.write()

    assert shadow_subjects_today(SCOPE) == [("ip:192.0.2.0", 5), ("ip:192.0.2.2", 4), ("ip:192.0.2.3", 3)]


def test_a_flood_of_addresses_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MAX_WAITING", 2)
    counts = ShadowSubjects()
    for name in ("ip:1", "ip:2", "ip:3", "ip:1"):
        counts.add(SCOPE, name)

    assert counts.waiting == {(SCOPE, "ip:1"): 2, (SCOPE, "ip:2"): 1}


def test_without_redis_the_subjects_are_lost_and_requests_are_served() -> None:
    hold(rule())
    breaker.outage = Outage()
    knock()

    shadow_subjects.write()

    assert shadow_subjects.waiting == {}


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("{user:1}", "user:1"),
        ("{user:1}:key:abc", "key:abc"),
        ("user:1", "user:1"),
        ("key:abc", "key:abc"),
        ("192.0.2.7", "ip:192.0.2.7"),
        ("2001:db8::1", "ip:2001:db8::1"),
        ("ip:192.0.2.7", "ip:192.0.2.7"),
    ],
)
def test_subjects_have_one_name_each(subject: str, name: str) -> None:
    assert name_of(subject) == name


def test_limits_in_shadow_mode_say_whom_they_would_have_refused() -> None:
    for subject in ("user:1", "192.0.2.7", "user:1"):
        note_shadow_refusal("public", subject)

    assert shadow_subjects_today(tier_scope("public")) == [("user:1", 2), ("ip:192.0.2.7", 1)]
    assert shadow_subjects_today(tier_scope("admin")) == []


# Operators


def by(operator: Model, **fields: Any) -> AddressRule:
    return set_address_rule(**{"network": NETWORK, "kind": "deny", "reason": "a test", "by": operator} | fields)


@pytest.mark.parametrize("kind", ["allow", "halved"])
def test_a_rule_that_refuses_nobody_has_no_shadow_mode(admin: User, kind: str) -> None:
    with pytest.raises(ValidationError):
        by(admin, kind=kind, observe_only=True)

    assert not AddressRule.objects.exists()


def test_operators_may_observe_their_own_network(admin: User) -> None:
    previous = current.set(RequestRecord(client_address=ADDRESS))
    try:
        made = by(admin, observe_only=True)
    finally:
        current.reset(previous)

    assert made.observe_only


def test_a_rule_is_enforced_when_it_is_set_again(admin: User) -> None:
    by(admin, observe_only=True)
    rules_cache.load()
    assert address_verdict(ADDRESS) is None

    by(admin)
    rules_cache.load()

    assert address_verdict(ADDRESS) is not None
    assert AuditEvent.objects.latest("created_at").details["changes"] == {"observe_only": [True, False]}


def test_the_api_sets_and_lists_rules_in_shadow_mode(api: ApiClient, admin: User) -> None:
    token = issue_tokens(admin).access
    body = {"network": NETWORK, "reason": "scans", "observe_only": True}

    made = api.send("post", "/admin/blocked-addresses", body, token=token)
    [listed] = api.send("get", "/admin/blocked-addresses", token=token).json()["blocked_addresses"]

    assert made.status_code == 201
    assert (listed["observe_only"], listed["observed"], listed["kind"]) == (True, 0, "deny")
    refused = api.send("post", "/admin/blocked-addresses", body | {"kind": "allow"}, token=token)
    assert refused.status_code == 422


def test_the_api_says_whom_shadow_mode_would_have_refused(api: ApiClient, admin: User) -> None:
    token = issue_tokens(admin).access
    note_shadow_refusal("public", "192.0.2.7")
    hold(rule())
    knock()
    shadow_subjects.write()

    for query in ("tier=public", f"network={NETWORK}", "network=192.0.2.9/24"):
        answer = api.send("get", f"/admin/shadow-refusals?{query}", token=token)
        assert answer.json() == {"subjects": [{"subject": "ip:192.0.2.7", "count": 1}]}
    for query in ("", "tier=public&network=192.0.2.0/24", "tier=nothing", "network=everyone"):
        assert api.send("get", f"/admin/shadow-refusals?{query}", token=token).status_code == 422
    breaker.outage = Outage()
    answer = api.send("get", "/admin/shadow-refusals?tier=public", token=token)
    assert (answer.status_code, error_code(answer)) == (503, "5008")


def test_the_page_of_a_rule_names_whom_it_would_have_refused(super_admin: User, owner: User) -> None:
    made = by(super_admin, observe_only=True)
    rules_cache.load()
    record = knock()
    note_observed_caller(record, Caller(str(owner.pk), Role.USER, "a" * 32, "", 0))
    shadow_subjects.write()
    observations.write()

    html = signed_in(super_admin).get(f"/admin/ratelimit/addressrule/{made.pk}/change/").content.decode()

    assert "every request from 192.0.2.0/24 (256 addresses) would be refused, but none is" in html
    assert "In shadow mode it would have refused 1 request so far." in html
    assert ADDRESS in html
    assert owner.email in html
    assert f'href="/admin/accounts/user/{owner.pk}/change/"' in html


def test_the_form_sets_and_keeps_shadow_mode(super_admin: User) -> None:
    page = signed_in(super_admin)
    form = {"network": NETWORK, "kind": "deny", "reason": "scans", "observe_only": "on", "lasts": "good"}

    page.post("/admin/ratelimit/addressrule/add/", form)
    made = AddressRule.objects.get(network=NETWORK)
    page.post(f"/admin/ratelimit/addressrule/{made.pk}/change/", form | {"reason": "more scans"})

    made.refresh_from_db()
    assert (made.observe_only, made.reason) == (True, "more scans")


def test_the_page_of_a_limit_names_whom_shadow_mode_would_have_refused(super_admin: User, owner: User) -> None:
    made = LimitRule.objects.create(tier="authenticated", limit=5, observe_only=True)
    note_shadow_refusal("authenticated", f"user:{owner.pk}")

    html = signed_in(super_admin).get(f"/admin/ratelimit/limitrule/{made.pk}/change/").content.decode()

    assert "Whom shadow mode would have refused in this tier today (UTC)" in html
    assert owner.email in html


def test_the_page_of_a_rule_works_without_redis(super_admin: User) -> None:
    made = by(super_admin, observe_only=True)
    page = signed_in(super_admin)
    breaker.outage = Outage()

    assert "Nobody so far." in page.get(f"/admin/ratelimit/addressrule/{made.pk}/change/").content.decode()
