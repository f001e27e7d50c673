"""What operators see and confirm about limits and address rules: names, previews, wide rules, durations, evidence."""

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.operators import prove, signed_in
from conftest import PASSWORD
from lucid_gateway.audit.models import AuditEvent
from ratelimit.engine.shadow import note_shadow_refusal
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import rules_cache

ADDRESSES, LIMITS = "/admin/ratelimit/addressrule/", "/admin/ratelimit/limitrule/"
EVIDENCE = {"tier": "public", "refused": 300, "limit": 100, "burst": 200, "window_seconds": 60, "at": "2026-01-02"}


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin."""
    return signed_in(admin)


def put(network: str = "192.0.2.0/24", **fields: Any) -> AddressRule:
    return AddressRule.objects.create(**{"network": network, "kind": "deny", "reason": "why"} | fields)


def put_limit(**fields: Any) -> LimitRule:
    return LimitRule.objects.create(**{"tier": "authenticated", "limit": 5} | fields)


def text(response: Any) -> str:
    assert response.status_code == 200
    content: str = response.content.decode()
    return content


def errors(response: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def rows(response: Any) -> str:
    """Return the table of the rules."""
    return text(response).partition('id="result_list"')[2].partition("</table>")[0]


def add_limit(page: Client, **fields: Any) -> Any:
    return page.post(f"{LIMITS}add/", {"tier": "authenticated", "limit": "7"} | fields)


def add_address(page: Client, **fields: Any) -> Any:
    return page.post(f"{ADDRESSES}add/", {"network": "192.0.2.0/24", "kind": "deny", "reason": "scans"} | fields)


# The limits of every tier


def test_the_page_shows_the_limits_of_every_tier(page: Client) -> None:
    shown = text(page.get(LIMITS))

    for numbers in (
        'data-tier="public" data-limit="100" data-burst="200"',
        'data-tier="authenticated" data-limit="1000" data-burst="2000"',
    ):
        assert numbers in shown
    assert "10.0 MiB a second" in shown
    assert "requests a day: no limit" in shown


def test_a_rule_for_everyone_replaces_the_number_of_the_environment(page: Client) -> None:
    rule = put_limit(tier="public", limit=5000)
    put_limit(tier="all", limit=None, daily_quota=900)
    rules_cache.load()

    shown = text(page.get(LIMITS))
    assert 'data-tier="public" data-limit="5000" data-burst="200"' in shown
    assert '<s class="faint" title="Set by the environment">100</s> 5,000' in shown
    assert f'<a href="{LIMITS}{rule.pk}/change/">rule for everyone</a>' in shown
    assert "requests a day: 900, set by a rule" in shown


# Names


def test_rules_show_names_with_links(page: Client, owner: User, admin: User) -> None:
    key, _ = create_api_key(owner, name="Night backup", permissions=["user:read"])
    put_limit(subject=f"user:{owner.pk}", created_by=str(admin.pk))
    put_limit(subject=f"key:{key.key_id}")
    put_limit()

    shown = rows(page.get(LIMITS))
    assert f'href="/admin/accounts/user/{owner.pk}/change/"' in shown
    assert "owner@example.org</span>" in shown
    assert f'href="/admin/accounts/apikey/{key.key_id}/change/"' in shown
    assert "Night backup" in shown
    assert "Everyone" in shown
    assert "admin@example.org</span>" in shown


def test_a_rule_of_the_gateway_itself_says_so(page: Client) -> None:
    put(kind="halved")
    assert ">gateway</span>" in rows(page.get(ADDRESSES))


def test_a_list_asks_a_constant_number_of_queries(page: Client, owner: User, admin: User) -> None:
    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as found:
            page.get(path)
        return len(found)

    put_limit(subject=f"user:{owner.pk}", created_by=admin.email)
    put(created_by=admin.email)
    queries(LIMITS)  # the first page after a login asks more
    before = [queries(LIMITS), queries(ADDRESSES)]
    for number in range(5):
        put_limit(subject=f"user:0000000{number}-0000-4000-8000-000000000000", created_by=owner.email)
        put(f"198.51.100.{number}/32", created_by=owner.email)

    assert [queries(LIMITS), queries(ADDRESSES)] == before


def test_kinds_are_pills_and_ended_rules_say_so(page: Client) -> None:
    put(kind="allow")
    put("198.51.100.0/24", kind="blocked", expires_at=timezone.now() - timedelta(hours=1))
    shown = rows(page.get(ADDRESSES))
    assert '<span class="pill ok">Allowed</span>' in shown
    assert '<span class="pill ">Ended</span>' in shown

    put_limit(observe_only=True)
    assert '<span class="pill warn">Shadow</span>' in rows(page.get(LIMITS))


def test_a_limit_in_shadow_mode_shows_what_it_would_have_refused_today(page: Client, owner: User) -> None:
    put_limit(subject=f"user:{owner.pk}", observe_only=True)
    put_limit(tier="public", observe_only=True)
    put_limit(tier="admin", subject=f"user:{owner.pk}")
    for name, subject, count in (
        ("authenticated", f"user:{owner.pk}", 3),
        ("authenticated", "key:abcdefghijkl", 4),
        ("public", "192.0.2.7", 2),
        ("public", "192.0.2.8", 5),
    ):
        for _ in range(count):
            note_shadow_refusal(name, subject)

    response = page.get(LIMITS)
    counts = {row.tier: row.refused_today.get(row.pk) for row in response.context["cl"].result_list}
    assert counts == {"authenticated": 3, "public": 7, "admin": None}
    assert '<span class="pill warn">Shadow</span> <span class="faint" title="Requests of today (UTC)">7</span>' in rows(
        response
    )
    named = text(response).partition("Whom shadow mode would have refused")[2].partition("</details>")[0]
    assert [words in named for words in (owner.email, "key:abcdefghijkl", "192.0.2.7", "192.0.2.8")] == [True] * 4


def test_the_page_of_a_limit_in_shadow_mode_counts_only_its_own_user(page: Client, owner: User, admin: User) -> None:
    rule = put_limit(subject=f"user:{owner.pk}", observe_only=True)
    counted = lambda: text(page.get(f"{LIMITS}{rule.pk}/change/")).partition("Whom shadow mode would have refused")[2]  # noqa: E731
    assert "Nobody so far." in counted()

    note_shadow_refusal("authenticated", f"user:{admin.pk}")
    assert "Nobody so far." in counted()
    note_shadow_refusal("authenticated", f"user:{owner.pk}")
    assert owner.email in counted()


def test_an_address_rule_in_shadow_mode_shows_what_it_would_have_refused(page: Client) -> None:
    put(observe_only=True, observed=1234, refused=7)
    put("198.51.100.0/24", observed=8, refused=1000)
    shown = rows(page.get(ADDRESSES))
    assert '<span class="faint" title="It would have refused these">1,234</span>' in shown
    assert "1,000" in shown


def test_a_wide_rule_that_refuses_suggests_shadow_mode(page: Client) -> None:
    assert "Shadow mode first" in text(add_address(page, network="10.0.0.0/8")).partition("<form")[0]
    asked = text(add_address(page, network="10.0.0.0/8", observe_only="on")).partition('name="reason"')[0]
    assert "would be refused, but none is. Shadow mode first" not in asked
    assert "In shadow mode: every request from 10.0.0.0/8 (16,777,216 addresses) would be refused" in asked


NUMBERS = [
    ({"limit": 1000, "burst": 0}, "1,000 a minute, burst 0"),
    ({"limit": None}, "no other numbers"),
    ({"tier": "chunk_upload", "limit": 1048576, "burst": 2097152}, "1.0 MiB a second, burst 2.0 MiB"),
    ({"tier": "all", "limit": None, "concurrent_requests": 3, "daily_quota": 1000}, "3 at once, 1,000 a day"),
]


@pytest.mark.parametrize(("fields", "words"), NUMBERS)
def test_the_numbers_of_a_rule_are_in_words(page: Client, fields: dict[str, Any], words: str) -> None:
    put_limit(**fields)
    assert words in rows(page.get(LIMITS))


def test_limits_are_found_by_the_one_they_are_for(page: Client, owner: User, admin: User) -> None:
    put_limit(subject=f"user:{owner.pk}", reason="abuse")
    put_limit(subject=f"user:{admin.pk}")

    for query in ("owner@example.org", "owner", str(owner.pk), f"user:{owner.pk}", "abuse"):
        found = page.get(LIMITS, {"q": query}).context["cl"].result_list
        assert [rule.subject for rule in found] == [f"user:{owner.pk}"], query


def test_an_address_finds_the_rules_of_its_networks(page: Client) -> None:
    for network in ("192.0.2.0/24", "192.0.2.7/32", "192.0.0.0/8", "198.51.100.0/24", "2001:db8::/32"):
        put(network)

    found = lambda query: {rule.network for rule in page.get(ADDRESSES, {"q": query}).context["cl"].result_list}  # noqa: E731
    assert found("192.0.2.7") == {"192.0.2.0/24", "192.0.2.7/32", "192.0.0.0/8"}
    assert found("::ffff:192.0.2.8") == {"192.0.2.0/24", "192.0.0.0/8"}
    assert found("2001:db8::7") == {"2001:db8::/32"}


# Whom a rule is for


def test_a_limit_is_set_for_the_user_with_this_email(page: Client, owner: User) -> None:
    assert add_limit(page, subject="Owner@Example.org").status_code == 302
    assert LimitRule.objects.get().subject == f"user:{owner.pk}"


def test_a_limit_is_set_for_the_api_key_with_this_name(page: Client, owner: User) -> None:
    key, _ = create_api_key(owner, name="Night backup", permissions=["user:read"])

    assert add_limit(page, subject="Night backup").status_code == 302
    assert LimitRule.objects.get().subject == f"key:{key.key_id}"


def test_a_pasted_api_key_is_cut_to_its_id(page: Client, owner: User) -> None:
    _, secret = create_api_key(owner, name="Night backup", permissions=["user:read"])

    shown = text(add_limit(page, subject=secret, _preview="1"))
    assert secret not in shown
    assert f"The API key Night backup of {owner.email}" in shown


def test_an_unknown_name_is_an_error_with_suggestions(page: Client, owner: User) -> None:
    response = add_limit(page, subject="own")

    assert errors(response) == {
        "subject": [
            "No user has the username own, and no active API key this name. Did you mean owner@example.org?",
        ]
    }
    assert '<option value="owner@example.org">' in text(response)
    assert not LimitRule.objects.exists()


def test_a_link_prefills_the_form_of_a_limit(page: Client, owner: User) -> None:
    shown = text(page.get(f"{LIMITS}add/?tier=authenticated&subject=user:{owner.pk}"))

    assert '<option value="authenticated" selected>' in shown
    assert 'value="owner@example.org"' in shown
    assert 'placeholder="1,000"' in shown
    assert "The user owner@example.org" in shown


def test_a_link_prefills_the_form_of_an_address_rule(page: Client) -> None:
    shown = text(page.get(f"{ADDRESSES}add/?network=192.0.2.7&kind=blocked&lasts=24h"))

    assert 'value="192.0.2.7"' in shown
    assert '<option value="blocked" selected>' in shown
    assert "No user was seen in the last day" in shown
    assert 'value="24h" id="id_lasts_1" checked' in shown.replace(" checked required", " checked")


def test_a_link_to_block_an_address_suggests_a_day(page: Client) -> None:
    assert 'value="24h" id="id_lasts_1" checked' in text(page.get(f"{ADDRESSES}add/?network=192.0.2.7&kind=blocked"))
    assert " checked" not in text(page.get(f"{ADDRESSES}add/?network=192.0.2.7&kind=deny")).partition("id_network")[2]


def test_a_link_to_a_rule_that_exists_opens_its_page(page: Client, owner: User) -> None:
    address, limit = put("192.0.2.7/32"), put_limit(subject=f"user:{owner.pk}")
    ended = put("192.0.2.8/32", expires_at=timezone.now() - timedelta(hours=1))

    links = [(ADDRESSES, "network=192.0.2.7&kind=blocked", address)]
    links += [(LIMITS, f"tier=authenticated&subject=user:{owner.pk}", limit)]
    for path, query, rule in links:
        response = page.get(f"{path}add/?{query}", follow=True)
        assert response.redirect_chain == [(f"{path}{rule.pk}/change/", 302)]
        assert "There is a rule for this already." in text(response)
    assert page.get(f"{ADDRESSES}add/?network={ended.network}").status_code == 200
    assert page.get(f"{LIMITS}add/?tier=admin&subject=user:{owner.pk}").status_code == 200


def test_the_page_of_a_rule_links_to_the_requests_that_it_refused(page: Client) -> None:
    links = {
        put("192.0.2.7/32"): "address=192.0.2.7&reason=address_denied",
        put("2001:db8::/48"): "network=2001%3Adb8%3A%3A%2F48&reason=address_denied",
        put("192.0.2.8/32", kind="blocked", expires_at=timezone.now() + timedelta(hours=1)):
            "address=192.0.2.8&reason=address_blocked",
        put("192.0.2.9/32", kind="halved"): "",
    }  # fmt: skip
    for rule, query in links.items():
        shown = unescape(text(page.get(f"{ADDRESSES}{rule.pk}/change/")))
        assert (f'href="{reverse("admin:requests")}?{query}"' in shown) == bool(query)
        if query:
            assert page.get(f"{reverse('admin:requests')}?{query}").status_code == 200


@pytest.mark.parametrize(
    "query", ["?network=nonsense", "?network=<script>&kind=x", "?subject=nobody&tier=x", "?lasts=1"]
)
def test_a_wrong_link_still_shows_the_form(page: Client, query: str) -> None:
    for path in (ADDRESSES, LIMITS):
        assert "Who is affected" not in text(page.get(f"{path}add/{query}"))


# Previews


def test_a_preview_says_who_is_affected_and_saves_nothing(page: Client) -> None:
    shown = text(add_address(page, _preview="1"))

    assert "<b>Who is affected:</b> No user was seen in the last day." in shown
    assert 'value="scans"' in shown
    assert "Correct the field" not in shown
    assert not AddressRule.objects.exists()


def test_a_preview_of_a_wide_rule_asks_nothing(page: Client) -> None:
    assert "Who is affected" in text(add_limit(page, subject="", _preview="1"))
    assert not LimitRule.objects.exists()


def test_a_preview_checks_the_fields(page: Client) -> None:
    response = add_address(page, network="nonsense", _preview="1")
    assert "Who is affected" not in text(response)
    assert set(errors(response)) == {"network"}


def test_an_existing_rule_has_a_preview_too(page: Client) -> None:
    rule = put()
    shown = text(page.post(f"{ADDRESSES}{rule.pk}/change/", {"kind": "allow", "reason": "new", "_preview": "1"}))

    assert "Who is affected" in shown
    rule.refresh_from_db()
    assert rule.kind == "deny"


# Wide rules


WIDE = ["10.0.0.0/15", "0.0.0.0/0", "2001:db8::/47", "::/0"]
NARROW = ["10.0.0.0/16", "192.0.2.7", "2001:db8::/48"]


@pytest.mark.parametrize("network", WIDE)
def test_a_rule_for_a_wide_network_needs_a_confirmation_with_a_reason(page: Client, network: str) -> None:
    asked = text(add_address(page, network=network, kind="halved"))
    assert 'name="_confirmed"' in asked
    assert "No user was seen in the last day." in asked
    assert 'name="reason" value="scans"' in asked
    assert not AddressRule.objects.exists()

    text(add_address(page, network=network, kind="halved", reason=" ", _confirmed="yes"))
    assert not AddressRule.objects.exists()
    assert add_address(page, network=network, kind="halved", reason="an attack", _confirmed="yes").status_code == 302
    assert AddressRule.objects.get().reason == "an attack"


@pytest.mark.parametrize("network", NARROW)
def test_a_rule_for_a_narrow_network_is_saved_at_once(page: Client, network: str) -> None:
    assert add_address(page, network=network).status_code == 302
    assert AddressRule.objects.exists()


def test_a_limit_for_everyone_needs_a_confirmation(page: Client, owner: User) -> None:
    asked = text(add_limit(page, subject="", observe_only="on"))
    assert "Save the rule for everyone" in asked
    assert "In shadow mode the rule refuses nobody" in asked
    assert not LimitRule.objects.exists()

    assert add_limit(page, subject="", _confirmed="yes", reason="load").status_code == 302
    assert LimitRule.objects.get().reason == "load"
    assert add_limit(page, tier="admin", subject=owner.email).status_code == 302


def test_a_wide_rule_needs_the_password_after_fifteen_minutes(page: Client) -> None:
    prove(page, seconds_ago=901)
    confirmed = {"subject": "", "_confirmed": "yes", "reason": "load"}

    assert 'name="proof"' in text(add_limit(page, **confirmed))
    assert not LimitRule.objects.exists()
    assert add_limit(page, **confirmed, proof=PASSWORD).status_code == 302


def test_a_change_of_a_wide_rule_needs_a_confirmation(page: Client) -> None:
    rule = put_limit(reason="old")
    assert 'name="_confirmed"' in text(page.post(f"{LIMITS}{rule.pk}/change/", {"limit": "9"}))
    rule.refresh_from_db()
    assert rule.limit == 5


@pytest.mark.parametrize("action", ["lift", "extend"])
def test_actions_on_a_wide_rule_need_a_reason(page: Client, action: str) -> None:
    wide = put("10.0.0.0/8", expires_at=timezone.now() + timedelta(minutes=5))
    narrow = put("192.0.2.0/24", expires_at=wide.expires_at)
    asked = lambda rule: text(page.post(ADDRESSES, {"action": action, "_selected_action": str(rule.pk)}))  # noqa: E731

    assert 'name="reason"' in asked(wide)
    assert 'name="reason"' not in asked(narrow)


def test_the_audit_log_keeps_why_a_wide_rule_was_lifted(page: Client) -> None:
    address, limit = put("10.0.0.0/8"), put_limit()
    for path, rule, kind in ((ADDRESSES, address, "address.lifted"), (LIMITS, limit, "limit.lifted")):
        chosen = {"action": "lift", "_selected_action": str(rule.pk), "_confirmed": "yes", "reason": "over"}
        assert "1 rule lifted." in text(page.post(path, chosen, follow=True))
        assert AuditEvent.objects.get(type=kind).details["why"] == "over"


# How long a rule lasts


@pytest.mark.parametrize(("lasts", "hours"), [("1h", 1), ("24h", 24), ("7d", 7 * 24)])
def test_a_preset_ends_the_rule(page: Client, lasts: str, hours: int) -> None:
    before = timezone.now()
    assert add_address(page, lasts=lasts, expires_at="2020-01-01T00:00").status_code == 302

    ends = AddressRule.objects.get().expires_at
    assert ends is not None
    assert timedelta(seconds=-1) <= ends - before - timedelta(hours=hours) < timedelta(minutes=5)


def test_for_good_removes_the_end(page: Client, owner: User) -> None:
    rule = put_limit(subject=f"user:{owner.pk}", expires_at=timezone.now() + timedelta(hours=1))
    data = {"limit": "5", "lasts": "good", "expires_at": "2099-01-01T00:00"}
    assert page.post(f"{LIMITS}{rule.pk}/change/", data).status_code == 302
    rule.refresh_from_db()
    assert rule.expires_at is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lasts": "until"}, "Enter when the rule ends."),
        ({"lasts": "until", "expires_at": "2020-01-01T00:00"}, "This time is in the past."),
        ({"expires_at": "2020-01-01T00:00"}, "This time is in the past."),
    ],
)
def test_an_exact_end_must_be_in_the_future(page: Client, fields: dict[str, str], message: str) -> None:
    assert errors(add_address(page, **fields)) == {"expires_at": [message]}


def test_a_rule_that_has_ended_can_be_replaced(page: Client, owner: User) -> None:
    past = timezone.now() - timedelta(hours=1)
    put(expires_at=past)
    put_limit(subject=f"user:{owner.pk}", expires_at=past)

    assert add_address(page).status_code == 302
    assert add_limit(page, subject=owner.email).status_code == 302
    assert AddressRule.objects.get().expires_at is None
    assert LimitRule.objects.get().limit == 7


def test_a_rule_exists_already(page: Client, owner: User) -> None:
    put()
    put_limit(subject=f"user:{owner.pk}")
    words = "There is a rule for this already: edit it, or lift it first."
    assert errors(add_address(page)) == {"network": [words]}
    assert errors(add_limit(page, subject=owner.email)) == {"__all__": [words]}


def test_a_rule_is_extended_and_keeps_its_evidence(page: Client) -> None:
    rule = put(kind="blocked", evidence=EVIDENCE, expires_at=timezone.now() + timedelta(minutes=5))
    chosen = {"row_action": f"extend {rule.pk}"}
    asked = text(page.post(ADDRESSES, chosen))
    assert 'name="lasts"' in asked

    data = {"action": "extend", "_selected_action": str(rule.pk), "_confirmed": "yes", "lasts": "7d"}
    assert "1 rule extended." in text(page.post(ADDRESSES, data, follow=True))
    row = AddressRule.objects.get()
    assert row.expires_at is not None
    assert row.expires_at > timezone.now() + timedelta(days=6)
    assert (row.evidence, row.created_by, row.kind) == (EVIDENCE, "", "blocked")
    event = AuditEvent.objects.get(type="address.ruled")
    assert (event.subject, event.details["until"]) == ("192.0.2.0/24", row.expires_at.isoformat())


def test_a_limit_is_extended(page: Client, owner: User) -> None:
    rule = put_limit(subject=f"user:{owner.pk}", expires_at=timezone.now() + timedelta(minutes=5))
    data = {"action": "extend", "_selected_action": str(rule.pk), "_confirmed": "yes", "lasts": "good"}
    page.post(LIMITS, data)

    assert LimitRule.objects.get().expires_at is None
    details = AuditEvent.objects.get(type="limit.set").details
    assert (details["tier"], details["changes"]["expires_at"][1]) == ("authenticated", None)


def test_an_ended_rule_that_would_lock_out_the_operator_is_not_extended(page: Client) -> None:
    rule = put("127.0.0.0/24", expires_at=timezone.now() - timedelta(minutes=5))
    rule.refresh_from_db()
    data = {"action": "extend", "_selected_action": str(rule.pk), "_confirmed": "yes", "lasts": "good"}

    assert "the rule would lock you out" in text(page.post(ADDRESSES, data, follow=True))
    assert AddressRule.objects.get().expires_at == rule.expires_at


# The page of a rule


def test_the_page_of_an_automatic_rule_says_why_in_words(page: Client) -> None:
    rule = put(kind="halved", reason="twice its limit within a minute", evidence=EVIDENCE)
    shown = text(page.get(f"{ADDRESSES}{rule.pk}/change/"))

    assert "The limits of requests from 192.0.2.0/24 (256 addresses) are halved." in shown
    assert "300 requests were refused within a minute: the limit of 100 requests a minute and the burst of 200" in shown
    assert 'Made by <span class="cut" title="the gateway">the gateway</span>' in shown
    assert "It has refused" not in shown


def test_the_page_of_a_rule_says_what_it_refuses_and_who_made_it(page: Client, admin: User) -> None:
    rule = put(refused=1234, created_by=admin.email)
    shown = text(page.get(f"{ADDRESSES}{rule.pk}/change/"))

    assert "Every request from 192.0.2.0/24 (256 addresses) is refused." in shown
    assert "It has refused 1,234 requests." in shown
    assert f'Made by <a href="/admin/accounts/user/{admin.pk}/change/">' in shown
    assert f'name="row_action" value="lift {rule.pk}"' in shown


def test_the_page_of_an_ended_rule_says_so(page: Client) -> None:
    rule = put(expires_at=timezone.now() - timedelta(minutes=5))
    shown = text(page.get(f"{ADDRESSES}{rule.pk}/change/"))
    assert "This rule has ended: requests from 192.0.2.0/24 (256 addresses) are treated like all others." in shown


def test_the_page_of_a_limit_names_its_user(page: Client, owner: User) -> None:
    rule = put_limit(subject=f"user:{owner.pk}", burst=7, reason="abuse")
    shown = text(page.get(f"{LIMITS}{rule.pk}/change/"))

    assert "5 a minute, burst 7 for <a" in shown
    assert "abuse" in shown
    assert 'name="daily_quota"' not in shown
