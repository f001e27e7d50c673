"""The operator pages for trust policies show them, with rules that can be read, and change nothing."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import signed_in
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
