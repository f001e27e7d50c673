"""The operator pages for trust policies show them, with rules that can be read, and change nothing."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import signed_in
from lucid_gateway.audit.models import AuditEvent
from sessions_api.models import TrustPolicy
from sessions_api.tests.trust import WHOLE_RULE, policy_of, session_with

LIST = "/admin/sessions_api/trustpolicy/"
DENY: dict[str, Any] = WHOLE_RULE | {
    "rule_id": "strangers", "type": "deny", "condition": '<b>"x"</b> < 1', "action": "*", "enabled": False,
}  # fmt: skip
RULES = [WHOLE_RULE, DENY, WHOLE_RULE | {"rule_id": "first", "priority": 7}]


@pytest.fixture
def page(super_admin: User) -> Client:
    """The browser of a super admin, the role with all permissions."""
    return signed_in(super_admin)


def change_page(policy: TrustPolicy) -> str:
    return f"{LIST}{policy.pk}/change/"


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_list_shows_policies_with_their_owners(page: Client, owner: User) -> None:
    policy_of(owner, rules=RULES)
    text = text_of(page.get(LIST))
    rules = '<td class="field-number_of_rules" data-label="Rules">3</td>'
    assert all(part in text for part in ("Adults", "owner@example.org", rules))


def test_a_row_leads_to_the_form_that_evaluates_its_policy(page: Client, owner: User) -> None:
    policy = TrustPolicy.objects.create(user=owner, slot=1, name="policy", rules=[])

    shown = page.get("/admin/sessions_api/trustpolicy/").content.decode()
    assert f'href="/admin/sessions_api/trustpolicy/{policy.pk}/evaluate/" class="button small">Evaluate…</a>' in shown
    assert '<span class="pill ok">Enabled</span>' in shown


def test_a_policy_is_found_by_name_owner_and_id(page: Client, owner: User, super_admin: User) -> None:
    mine, other = policy_of(owner, name="Mine"), policy_of(super_admin, name="Other")
    for query in ("in", "owner@example.org", "owner", str(mine.pk)):
        text = text_of(page.get(LIST, {"q": query}))
        assert (str(mine.pk) in text.replace(f'value="{query}"', ""), str(other.pk) in text) == (True, False)


def test_the_rules_are_shown_as_sentences_in_order_of_evaluation(page: Client, owner: User) -> None:
    policy = policy_of(owner, rules=RULES)
    session_with(policy)
    text = text_of(page.get(change_page(policy)))

    places = [text.index(f"<strong>{rule_id}</strong>") for rule_id in ("first", "strangers", "adults")]
    assert places == sorted(places)
    assert "denies <code>*</code>" in text
    assert "&lt;b&gt;&quot;x&quot;&lt;/b&gt; &lt; 1" in text
    assert "priority 0 · disabled" in text


def test_the_admin_cannot_add_change_or_delete_policies(page: Client, owner: User) -> None:
    policy = policy_of(owner)
    assert page.get(f"{LIST}add/").status_code == 403
    assert page.post(change_page(policy), {"name": "b"}).status_code == 403
    assert page.post(f"{LIST}{policy.pk}/delete/", {"post": "yes"}).status_code == 403
    assert TrustPolicy.objects.get().name == "Adults"


def test_users_who_are_not_staff_are_sent_to_the_login(owner: User) -> None:
    assert signed_in(owner).get(LIST).status_code == 302


# Evaluation


def evaluated(page: Client, policy: TrustPolicy, action: str, attributes: str) -> Any:
    """Return the page that shows the policy's decision."""
    response = page.post(f"{LIST}{policy.pk}/evaluate/", {"action": action, "attributes": attributes})
    assert response.status_code == 200
    return response


@pytest.mark.parametrize(
    ("attributes", "decision"),
    [
        ('{"user": {"age": 18}}', "allow"), ("user.age = 18", "allow"), ("\n user.age=20 \r\nother = x", "allow"),
        ("user.age = 17", "deny"), ("", "deny"), ('user.age = "18"', "deny"), ("user = 1", "deny"),
        ("a = " + "[" * 9000, "deny"),
    ],
)  # fmt: skip
def test_a_policy_is_evaluated_with_json_or_with_lines(
    page: Client, owner: User, attributes: str, decision: str
) -> None:
    assert evaluated(page, policy_of(owner), "session.view", attributes).context["decision"].decision == decision


def test_the_page_shows_which_rule_decided_and_what_became_of_the_others(page: Client, owner: User) -> None:
    other = WHOLE_RULE | {"rule_id": "other", "action": "session.delete", "priority": 9}
    before = WHOLE_RULE | {"rule_id": "before", "condition": "user.age > 99", "priority": 8}
    undecided = WHOLE_RULE | {"rule_id": "undecided", "condition": "user.name == 'x'", "priority": 7}
    after = WHOLE_RULE | {"rule_id": "zz", "priority": 0, "type": "allow"}
    policy = policy_of(owner, rules=[other, before, undecided, WHOLE_RULE | {"priority": 6}, after, DENY])
    response = evaluated(page, policy, "session.view", "user.age = 30")

    found = {rule["rule_id"]: rule["outcome"][0] for rule in response.context["rules"]}
    assert found == {
        "other": "other action", "before": "no match", "undecided": "undecided", "adults": "matches", "zz": "not asked",
        "strangers": "disabled",
    }  # fmt: skip
    assert "The allow rule adults matches." in text_of(response)


@pytest.mark.parametrize(
    ("action", "attributes"),
    [
        ("", "{}"), ("session.*", "{}"), ("session.view", "{"), ("session.view", "[1]"), ("session.view", "no equals"),
        ("session.view", "{" * 3000), ("session.view", '{"a": NaN}'), ("session.view", "a = 1\na.b = 2"),
        ("session.view", "a = " + "x" * 17_000), ("session.view", "a = 1\n" * 9000), ("session.view", "= 1"),
    ],
)  # fmt: skip
def test_an_invalid_question_is_an_error_of_the_form(page: Client, owner: User, action: str, attributes: str) -> None:
    response = evaluated(page, policy_of(owner), action, attributes)

    assert response.context["form"].errors
    assert response.context["decision"] is None


def test_an_evaluation_stores_nothing(page: Client, owner: User) -> None:
    policy = policy_of(owner)
    before, events = TrustPolicy.objects.values().get(), AuditEvent.objects.count()
    evaluated(page, policy, "session.view", "user.age = 18")

    assert (TrustPolicy.objects.values().get(), AuditEvent.objects.count()) == (before, events)


def test_what_was_asked_is_shown_again_as_text(page: Client, owner: User) -> None:
    text = text_of(evaluated(page, policy_of(owner), "session.view", "a = <script>alert(1)</script>"))

    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_missing_policy_cannot_be_evaluated(page: Client) -> None:
    for key in ("x", "00000000-0000-4000-8000-000000000000"):
        assert page.get(f"{LIST}{key}/evaluate/").status_code == 404
