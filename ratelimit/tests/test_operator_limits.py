"""The operator pages for limits and addresses: forms for what the API does. Lifting asks for confirmation."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import signed_in
from conftest import make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import Outage, breaker
from lucid_gateway.policy.roles import Role
from ratelimit.admin import addresses, limits
from ratelimit.engine.shadow import note_shadow_refusal
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import address_verdict, limit_for, rules_cache

ADDRESSES, LIMITS = "/admin/ratelimit/addressrule/", "/admin/ratelimit/limitrule/"
USER = f"user:{'7' * 8}-0000-4000-8000-000000000000"


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin."""
    return signed_in(admin)


CONFIRMED = {"_confirmed": "yes", "reason": "why"}  # what the page that asks about a wide rule sends


def put(network: str, **fields: Any) -> AddressRule:
    return AddressRule.objects.create(**{"network": network, "kind": "deny", "reason": "why"} | fields)


def put_limit(**fields: Any) -> LimitRule:
    return LimitRule.objects.create(**{"tier": "authenticated", "subject": USER, "limit": 5} | fields)


def text(response: Any) -> str:
    content: str = response.content.decode()
    return content


def errors(response: Any) -> dict[str, list[str]]:
    """Return the errors of the form."""
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def test_the_form_explains_the_format_of_a_subject(page: Client) -> None:
    assert "user:ID or key:ID; empty for everyone" in text(page.get(f"{LIMITS}add/"))


def lift(page: Client, path: str, *rows: Any, confirmed: bool = True) -> Any:
    """Choose the action for the rows; confirm it unless `confirmed` is False."""
    data: dict[str, Any] = {"action": "lift", "_selected_action": [str(row.pk) for row in rows]}
    return page.post(path, data | ({"_confirmed": "yes"} if confirmed else {}), follow=True)


# Addresses


def test_a_form_denies_a_network(page: Client, admin: User) -> None:
    response = page.post(f"{ADDRESSES}add/", {"network": "192.0.2.77/24", "kind": "deny", "reason": "scans"})

    assert response.status_code == 302, errors(response)
    row = AddressRule.objects.get()
    assert (row.network, row.kind, row.reason, row.created_by) == ("192.0.2.0/24", "deny", "scans", admin.email)
    verdict = address_verdict("192.0.2.1")
    assert verdict is not None
    assert verdict.kind == "deny"


def test_a_block_can_expire(page: Client) -> None:
    data = {
        "network": "192.0.2.1",
        "kind": "blocked",
        "reason": "x",
        "expires_at": "2099-01-02T03:04",
    }
    page.post(f"{ADDRESSES}add/", data)

    ends = AddressRule.objects.get().expires_at
    assert ends is not None
    assert ends.isoformat() == "2099-01-02T03:04:00+00:00"


BAD_RULES: list[tuple[dict[str, str], set[str]]] = [
    ({"network": "nonsense"}, {"network"}),
    ({"network": ""}, {"network"}),
    ({"kind": "evil"}, {"kind"}),
    ({"reason": ""}, {"reason"}),
    ({"network": "192.0.2.9/24"}, {"network"}),  # a rule exists
]


def test_an_invalid_rule_is_an_error_message(page: Client) -> None:
    put("192.0.2.0/24")
    for changes, fields in BAD_RULES:
        response = page.post(f"{ADDRESSES}add/", {"network": "192.0.2.1", "kind": "deny", "reason": "x"} | changes)

        assert (response.status_code, set(errors(response))) == (200, fields), changes
    assert AddressRule.objects.count() == 1


def test_a_rule_can_be_changed_but_not_its_network(page: Client, admin: User) -> None:
    rule = put("192.0.2.0/24", kind="halved", evidence={"refused": 300}, refused=7)
    change = f"{ADDRESSES}{rule.pk}/change/"
    assert "300" in text(page.get(change))

    response = page.post(change, {"network": "0.0.0.0/0", "kind": "allow", "reason": "ours"})

    assert response.status_code == 302, errors(response)
    row = AddressRule.objects.get()
    assert (row.pk, row.network, row.kind, row.reason) == (rule.pk, "192.0.2.0/24", "allow", "ours")
    assert (row.refused, row.created_by) == (7, admin.email)


FOUND = {
    "": 3, "?q=192.0.2.1": 1, "?q=scan": 1, "?q=nobody": 0, "?kind__exact=blocked": 1, "?expires_at__isnull=True": 2,
    "?o=6": 3, "?o=-6": 3,
}  # fmt: skip


def test_addresses_are_searched_filtered_and_sorted(page: Client) -> None:
    put("192.0.2.1/32")
    put("198.51.100.0/24", reason="scans")
    put("2001:db8::/64", kind="blocked", expires_at=timezone.now() + timedelta(hours=1))

    assert {query: len(page.get(f"{ADDRESSES}{query}").context["cl"].result_list) for query in FOUND} == FOUND


def test_lifting_asks_first(page: Client) -> None:
    rule = put("192.0.2.0/24")

    response = lift(page, ADDRESSES, rule, confirmed=False)

    assert "192.0.2.0/24" in text(response)
    assert 'name="_confirmed" value="Lift rules"' in text(response)
    assert AddressRule.objects.exists()


def test_rules_are_lifted(page: Client) -> None:
    rules = [put(f"192.0.2.{number}/32") for number in range(3)]
    rules_cache.load()

    assert "2 rules lifted" in text(lift(page, ADDRESSES, *rules[:2]))
    assert [row.network for row in AddressRule.objects.all()] == ["192.0.2.2/32"]
    assert [address_verdict(f"192.0.2.{number}") is None for number in range(3)] == [True, True, False]


def test_a_rule_that_ended_meanwhile_does_not_stop_others_from_being_lifted(
    page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules, lift_one = [put(f"192.0.2.{number}/32") for number in range(3)], addresses.lift_address_rule

    def lift_after_another(network: str, *, by: User | str, why: str) -> None:
        AddressRule.objects.filter(network="192.0.2.1/32").delete()
        lift_one(network, by=by, why=why)

    monkeypatch.setattr(addresses, "lift_address_rule", lift_after_another)

    assert "2 rules lifted" in text(lift(page, ADDRESSES, *rules))
    assert not AddressRule.objects.exists()


# Limits


def test_a_form_sets_a_limit(page: Client, admin: User) -> None:
    response = page.post(f"{LIMITS}add/", {"tier": "authenticated", "subject": USER, "limit": 7, "reason": "abuse"})

    assert response.status_code == 302, errors(response)
    row = LimitRule.objects.get()
    assert (row.limit, row.burst, row.reason, row.created_by) == (7, None, "abuse", admin.email)
    assert limit_for("authenticated", USER).requests_per_minute == 7


def test_quota_and_concurrency_can_be_set_for_everyone(page: Client) -> None:
    data = {"tier": "all", "subject": "", "concurrent_requests": 3, "daily_quota": 100, "observe_only": "on"}
    page.post(f"{LIMITS}add/", data | CONFIRMED)

    found = limit_for("authenticated", USER)
    assert (found.concurrent_requests, found.daily_quota, found.observe_totals) == (3, 100, True)


BAD_LIMITS: list[tuple[dict[str, str], str]] = [
    ({"tier": "evil"}, "tier"),
    ({"subject": "somebody"}, "subject"),
    ({"limit": "0"}, "limit"),
    ({"limit": "-1"}, "limit"),
    ({"burst": "x"}, "burst"),
    ({"daily_quota": "5"}, "__all__"),  # a quota cannot belong to one tier
    ({"tier": "all"}, "__all__"),  # the tier `all` cannot have a limit
    ({"tier": "public", "subject": ""}, "__all__"),  # a rule exists
]


def test_an_invalid_limit_is_an_error_message(page: Client) -> None:
    put_limit(tier="public", subject="")
    for changes, field in BAD_LIMITS:
        response = page.post(f"{LIMITS}add/", {"tier": "authenticated", "subject": USER, "limit": "5"} | changes)

        assert (response.status_code, set(errors(response))) == (200, {field}), changes
    assert LimitRule.objects.count() == 1


def test_a_limit_can_be_changed_but_not_its_subject(page: Client, admin: User) -> None:
    rule = put_limit(burst=3, reason="old")

    response = page.post(f"{LIMITS}{rule.pk}/change/", {"tier": "admin", "subject": "", "limit": "9"})

    assert response.status_code == 302, errors(response)
    row = LimitRule.objects.get()
    assert (row.pk, row.tier, row.subject) == (rule.pk, "authenticated", USER)
    assert (row.limit, row.burst, row.reason, row.created_by) == (9, None, "", admin.email)


def test_lifting_limits_asks_for_confirmation(page: Client) -> None:
    rules = [put_limit(tier=tier) for tier in ("public", "admin", "authenticated")]
    asked = lift(page, LIMITS, *rules[:2], confirmed=False)
    assert 'name="_confirmed" value="Lift rules"' in text(asked)
    assert LimitRule.objects.count() == 3

    assert "2 rules lifted" in text(lift(page, LIMITS, *rules[:2]))
    assert [row.tier for row in LimitRule.objects.all()] == ["authenticated"]
    assert set(rules_cache.current.limits) == {("authenticated", USER)}


def test_a_limit_that_was_lifted_meanwhile_does_not_stop_others(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, lift_one = [put_limit(tier=tier) for tier in ("admin", "authenticated", "public")], limits.lift_limit_rule

    def lift_after_another(*, tier: str, subject: str, by: User | str, why: str) -> None:
        LimitRule.objects.filter(tier="authenticated").delete()
        lift_one(tier=tier, subject=subject, by=by, why=why)

    monkeypatch.setattr(limits, "lift_limit_rule", lift_after_another)

    assert "2 rules lifted" in text(lift(page, LIMITS, *rules))
    assert not LimitRule.objects.exists()


def test_the_page_counts_requests_that_shadow_mode_would_have_refused_today(page: Client) -> None:
    assert "shadow mode would have" not in text(page.get(LIMITS))
    for name in ("public", "public", "admin"):
        note_shadow_refusal(name, "user:1")

    assert "Requests that shadow mode would have refused today (UTC):" in text(page.get(LIMITS))
    assert "1 of admin, 2 of public" in text(page.get(LIMITS))


def test_the_pages_work_without_redis(page: Client) -> None:
    put("192.0.2.0/24")
    rule = put_limit()
    note_shadow_refusal("public", "user:1")
    breaker.outage = Outage()

    response = page.get(LIMITS)
    assert (response.status_code, "shadow mode would have" in text(response)) == (200, False)
    assert page.get(ADDRESSES).status_code == 200
    assert "1 rule lifted" in text(lift(page, LIMITS, rule))


# Access, and the audit log


@pytest.mark.parametrize("role", [None, Role.USER, Role.NODE_OPERATOR])
def test_others_are_sent_to_the_login(db: None, role: Role | None) -> None:
    rule, client = put("192.0.2.0/24"), Client(HTTP_HOST="testserver")
    if role is not None:
        client.force_login(make_user("somebody", role))

    for path in (ADDRESSES, LIMITS, f"{ADDRESSES}add/", f"{LIMITS}add/", f"{ADDRESSES}{rule.pk}/change/"):
        for response in (client.get(path), client.post(path, {"action": "lift", "_selected_action": [str(rule.pk)]})):
            assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/"), path
    assert AddressRule.objects.exists()


def test_rules_can_be_lifted_but_not_deleted(page: Client) -> None:
    address, limit = put("192.0.2.0/24"), put_limit()

    assert page.post(f"{ADDRESSES}{address.pk}/delete/", {"post": "yes"}).status_code == 403
    assert page.post(f"{LIMITS}{limit.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in text(page.get(ADDRESSES)) + text(page.get(LIMITS))


def test_operator_changes_are_audited(page: Client, admin: User) -> None:
    page.post(f"{ADDRESSES}add/", {"network": "192.0.2.0/24", "kind": "deny", "reason": "scans"})
    page.post(f"{LIMITS}add/", {"tier": "authenticated", "subject": USER, "limit": 7})
    lift(page, ADDRESSES, AddressRule.objects.get())
    lift(page, LIMITS, LimitRule.objects.get())

    events = AuditEvent.objects.filter(actor=str(admin.pk)).order_by("created_at")
    assert [(event.type, event.subject) for event in events if event.type.startswith(("address.", "limit."))] == [
        ("address.ruled", "192.0.2.0/24"), ("limit.set", USER), ("address.lifted", "192.0.2.0/24"),
        ("limit.lifted", USER),
    ]  # fmt: skip


def test_texts_of_rules_are_escaped(page: Client) -> None:
    put("192.0.2.0/24", reason="<script>alert(1)</script>", evidence={"<script>alert(2)": "</script>"})
    rule = AddressRule.objects.get()

    shown = text(page.get(ADDRESSES)) + text(page.get(f"{ADDRESSES}{rule.pk}/change/"))
    assert "alert(1)" in shown
    assert "<script>alert" not in shown


def test_the_pages_send_rate_limit_headers(page: Client, admin: User, frozen_minute: int) -> None:
    put_limit(tier="admin", subject=f"user:{admin.pk}", limit=2, burst=0)
    rules_cache.load()
    responses = [page.get(ADDRESSES) for _ in range(3)]

    assert [response.status_code for response in responses] == [200, 200, 429]
    assert [response["X-RateLimit-Remaining"] for response in responses] == ["1", "0", "0"]


@pytest.mark.parametrize("network", ["127.0.0.1", "0.0.0.0/0", "127.0.0.0/8"])
@pytest.mark.parametrize("kind", ["deny", "blocked"])
def test_a_rule_that_would_lock_out_its_author_is_an_error_message(page: Client, network: str, kind: str) -> None:
    answer = page.post(f"{ADDRESSES}add/", {"network": network, "kind": kind, "reason": "why"})
    assert "This network contains your own address: the rule would lock you out (127.0.0.1)." in text(answer)
    assert not AddressRule.objects.exists()

    put("127.0.0.0/24", kind="allow")  # the narrower network wins
    answer = page.post(f"{ADDRESSES}add/", {"network": "127.0.0.0/8", "kind": kind} | CONFIRMED, follow=True)
    assert "The rule for 127.0.0.0/8 (16,777,216 addresses) was added." in text(answer)
