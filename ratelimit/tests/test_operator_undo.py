"""Undoing what operators did to limits and address rules: the row becomes exactly what it was."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import messages_of, signed_in
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.operators import undo
from ratelimit.models import AddressRule, LimitRule
from ratelimit.rules import address_verdict, limit_for, rules_cache
from ratelimit.ruling import lift_address_rule, set_address_rule, set_limit_rule

ADDRESSES, LIMITS = "/admin/ratelimit/addressrule/", "/admin/ratelimit/limitrule/"
USER = f"user:{'7' * 8}-0000-4000-8000-000000000000"
NETWORK = "192.0.2.0/24"


@pytest.fixture
def page(admin: User) -> Client:
    """The browser of the admin."""
    return signed_in(admin)


def put(network: str = NETWORK, **fields: Any) -> AddressRule:
    rule = AddressRule.objects.create(**{"network": network, "kind": "deny", "reason": "why"} | fields)
    rules_cache.load()
    return rule


def rows(model: Any) -> list[dict[str, Any]]:
    """Return the whole table."""
    return list(model.objects.order_by("pk").values())


def do(page: Client, path: str, **data: Any) -> str:
    """Send a form; return the key of the button in the message that follows."""
    response = page.post(path, data, follow=True)
    assert "adminform" not in response.context, response.context["adminform"].form.errors
    keys = [undo.key_of(message) for message in response.context["messages"]]
    return keys[-1]


def lift(page: Client, path: str, *rules: Any) -> str:
    return do(
        page, path, action="lift", _selected_action=[str(rule.pk) for rule in rules], _confirmed="yes", reason="x"
    )


def press(page: Client, key: str) -> list[str]:
    response: Any = page.post("/admin/undo/", {"undo": key, "back": ADDRESSES}, follow=True)
    return messages_of(response)


def audited(kind: str) -> dict[str, Any]:
    """Return the details of the newest event of the type."""
    event = AuditEvent.objects.filter(type=kind).order_by("-created_at").first()
    assert event is not None
    details: dict[str, Any] = event.details
    return details


def test_a_new_address_rule_is_removed_again(page: Client) -> None:
    key = do(page, f"{ADDRESSES}add/", network=NETWORK, kind="deny", reason="scans")
    assert address_verdict("192.0.2.1") is not None

    assert press(page, key) == ["1 rule: undone."]
    assert not AddressRule.objects.exists()
    assert address_verdict("192.0.2.1") is None
    assert audited("address.lifted") == {
        "undone": True, "rule": "deny", "changes": {"kind": ["deny", None], "reason": ["scans", None]},
    }  # fmt: skip


def test_a_changed_address_rule_becomes_what_it_was(page: Client) -> None:
    rule = put(kind="halved", evidence={"refused": 300}, expires_at=timezone.now() + timedelta(hours=1), refused=5)
    before = rows(AddressRule)
    key = do(page, f"{ADDRESSES}{rule.pk}/change/", kind="allow", reason="ours", lasts="good")
    assert rows(AddressRule) != before

    assert press(page, key) == ["1 rule: undone."]
    assert rows(AddressRule) == before
    verdict = address_verdict("192.0.2.1")
    assert verdict is not None
    assert verdict.kind == "halved"
    assert verdict.automatic
    assert audited("address.ruled")["undone"] is True


def test_a_lifted_address_rule_is_put_back(page: Client) -> None:
    put(created_by="ada@example.org", evidence={"a": [1]}, refused=7, expires_at=timezone.now() + timedelta(hours=1))
    other = put("198.51.100.0/24")
    before = rows(AddressRule)
    key = lift(page, ADDRESSES, *AddressRule.objects.all())
    assert not AddressRule.objects.exists()

    assert press(page, key) == ["2 rules: undone."]
    assert rows(AddressRule) == before
    assert address_verdict("198.51.100.1") is not None
    assert other.network == "198.51.100.0/24"


def test_refusals_that_are_counted_meanwhile_do_not_prevent_an_undo(page: Client) -> None:
    key = do(page, f"{ADDRESSES}add/", network=NETWORK, kind="deny", reason="scans")
    AddressRule.objects.update(refused=99)

    assert press(page, key) == ["1 rule: undone."]


def test_an_extended_rule_ends_again_when_it_did(page: Client) -> None:
    rule = put(kind="blocked", expires_at=timezone.now() + timedelta(hours=1))
    before = rows(AddressRule)
    key = do(page, ADDRESSES, action="extend", _selected_action=str(rule.pk), _confirmed="yes", lasts="7d")

    assert press(page, key) == ["1 rule: undone."]
    assert rows(AddressRule) == before


def test_a_rule_that_somebody_changed_meanwhile_stays(page: Client) -> None:
    key = do(page, f"{ADDRESSES}add/", network=NETWORK, kind="deny", reason="scans")
    set_address_rule(network=NETWORK, kind="blocked", reason="mine", by="another")

    assert press(page, key) == [f"Nothing was undone: somebody has changed the rule {NETWORK} deny since."]
    assert AddressRule.objects.get().reason == "mine"


def test_a_lifted_rule_that_somebody_replaced_meanwhile_is_not_put_back(page: Client) -> None:
    key = lift(page, ADDRESSES, put())
    set_address_rule(network=NETWORK, kind="allow", reason="mine", by="another")

    assert press(page, key) == [f"Nothing was undone: somebody has changed the rule {NETWORK} deny since."]
    assert AddressRule.objects.get().reason == "mine"


def test_a_new_rule_that_somebody_lifted_meanwhile_is_not_undone(page: Client) -> None:
    key = do(page, f"{ADDRESSES}add/", network=NETWORK, kind="deny", reason="scans")
    lift_address_rule(NETWORK, by="another")

    assert press(page, key) == [f"Nothing was undone: somebody has changed the rule {NETWORK} deny since."]


def test_those_of_several_rules_that_nobody_changed_are_put_back(page: Client) -> None:
    key = lift(page, ADDRESSES, put(), put("198.51.100.0/24"))
    set_address_rule(network=NETWORK, kind="allow", reason="mine", by="another")

    assert press(page, key) == [
        f"1 rule: undone. The rest stays as it is: somebody has changed the rule {NETWORK} deny since."
    ]
    assert AddressRule.objects.filter(network="198.51.100.0/24", kind="deny").exists()


def test_a_rule_that_would_lock_out_the_operator_is_not_put_back(page: Client) -> None:
    key = lift(page, ADDRESSES, put("127.0.0.0/24"))

    assert press(page, key) == ["Nothing was undone: the rule for 127.0.0.0/24 would lock you out."]
    assert not AddressRule.objects.exists()


def test_a_new_limit_is_removed_again(page: Client) -> None:
    key = do(page, f"{LIMITS}add/", tier="authenticated", subject=USER, limit="7")
    assert limit_for("authenticated", USER).requests_per_minute == 7

    assert press(page, key) == ["1 rule: undone."]
    assert not LimitRule.objects.exists()
    assert limit_for("authenticated", USER).requests_per_minute == 1000
    assert audited("limit.lifted")["undone"] is True
    assert audited("limit.lifted")["changes"]["limit"] == [7, None]


def test_a_changed_limit_becomes_what_it_was(page: Client) -> None:
    rule = set_limit_rule(tier="authenticated", subject=USER, limit=5, burst=3, reason="old", by="another")
    before = rows(LimitRule)
    key = do(page, f"{LIMITS}{rule.pk}/change/", limit="9", lasts="1h", observe_only="on")

    assert press(page, key) == ["1 rule: undone."]
    assert rows(LimitRule) == before
    assert limit_for("authenticated", USER).burst_size == 3


def test_a_lifted_limit_is_put_back(page: Client) -> None:
    rule = set_limit_rule(tier="all", subject="", daily_quota=5, reason="old", by="another")
    before = rows(LimitRule)
    key = lift(page, LIMITS, rule)

    assert press(page, key) == ["1 rule: undone."]
    assert rows(LimitRule) == before
    assert audited("limit.set")["undone"] is True
    assert audited("limit.set")["changes"]["daily_quota"] == [None, 5]


def test_an_action_that_changed_nothing_offers_no_undo(page: Client) -> None:
    rule = put("127.0.0.0/24", expires_at=timezone.now() - timedelta(minutes=5))
    key = do(page, ADDRESSES, action="extend", _selected_action=str(rule.pk), _confirmed="yes", lasts="good")
    assert key == ""
