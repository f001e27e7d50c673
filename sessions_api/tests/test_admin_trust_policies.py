"""The operator pages for trust policies: to be looked at, with rules that can be read, on a phone, too."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import signed_in
from sessions_api.models import TrustPolicy
from sessions_api.tests.trust import WHOLE_RULE, policy_of, session_with
from testing.chromium import Chromium, Tab, running_chromium
from testing.gateway import Gateway

LIST = "/admin/sessions_api/trustpolicy/"
DENY: dict[str, Any] = WHOLE_RULE | {
    "rule_id": "strangers", "type": "deny", "condition": '<b>"x"</b> < 1', "action": "*", "enabled": False,
}  # fmt: skip
RULES = [WHOLE_RULE, DENY, WHOLE_RULE | {"rule_id": "first", "priority": 7}]


@pytest.fixture
def page(super_admin: User) -> Client:
    """The browser of a super admin, who may do all that there is to do."""
    return signed_in(super_admin)


def change_page(policy: TrustPolicy) -> str:
    return f"{LIST}{policy.pk}/change/"


def text_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_list_shows_whose_policies_there_are(page: Client, owner: User) -> None:
    policy_of(owner, rules=RULES)
    text = text_of(page.get(LIST))
    assert all(part in text for part in ("Adults", "owner@example.org", '<td class="field-number_of_rules">3</td>'))


def test_a_policy_is_found_by_name_owner_and_id(page: Client, owner: User, super_admin: User) -> None:
    mine, other = policy_of(owner, name="Mine"), policy_of(super_admin, name="Other")
    for query in ("in", "owner@example.org", "owner", str(mine.pk)):
        text = text_of(page.get(LIST, {"q": query}))
        assert (str(mine.pk) in text.replace(f'value="{query}"', ""), str(other.pk) in text) == (True, False)


def test_the_rules_are_sentences_in_the_order_in_which_they_are_asked(page: Client, owner: User) -> None:
    policy = policy_of(owner, rules=RULES)
    session_with(policy)
    text = text_of(page.get(change_page(policy)))

    places = [text.index(f"<strong>{rule_id}</strong>") for rule_id in ("first", "strangers", "adults")]
    assert places == sorted(places)
    assert "denies <code>*</code>" in text
    assert "&lt;b&gt;&quot;x&quot;&lt;/b&gt; &lt; 1" in text
    assert "priority 0 · disabled" in text


def test_nobody_changes_a_policy_there(page: Client, owner: User) -> None:
    policy = policy_of(owner)
    assert page.get(f"{LIST}add/").status_code == 403
    assert page.post(change_page(policy), {"name": "b"}).status_code == 403
    assert page.post(f"{LIST}{policy.pk}/delete/", {"post": "yes"}).status_code == 403
    assert TrustPolicy.objects.get().name == "Adults"


def test_users_who_are_no_staff_see_nothing(owner: User) -> None:
    assert signed_in(owner).get(LIST).status_code == 302


# In a browser

PASSWORD = "Correct-Horse-7"
LONG = "&&".join(["user_with_a_rather_long_name.age>=18"] * 26)
MAKE = f"""
from accounts.models import User
from django.contrib.auth.hashers import make_password
from sessions_api.policies import create_policy
staff = User.objects.create(
    email="staff@lucid.test", username="staff", role="super_admin", password=make_password({PASSWORD!r}))
rule = {{**{WHOLE_RULE!r}, "rule_id": "r" * 64, "condition": {LONG!r}}}
print(create_policy(staff.pk, name="n" * 255, description="d" * 1000, rules=[rule, {DENY!r}]).pk)
"""


@pytest.fixture(scope="module")
def signed_in_tab(gateway: Gateway) -> Iterator[tuple[Tab, str]]:
    """A browser that staff has signed in with, and the address of the page of a policy that is as long as can be."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    site = f"http://127.0.0.1:{gateway.port}"
    policy_id = gateway.manage("shell", "--no-imports", "--command", MAKE).strip()
    with running_chromium(binary) as chromium, chromium.tab(f"{site}/admin/login/?next={LIST}") as tab:
        sign_in(tab)
        yield tab, f"{site}{LIST}{policy_id}/change/"


def sign_in(tab: Tab) -> None:
    tab.type("#id_username", "staff@lucid.test")
    tab.type("#id_password", PASSWORD)
    tab.press("[type=submit]")
    tab.wait_for("#result_list")


def resized(chromium: Chromium, tab: Tab, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.call("Emulation.setDeviceMetricsOverride", tab.session, **size)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_rules_can_be_read_in_a_browser_of_any_width(signed_in_tab: tuple[Tab, str], width: int) -> None:
    tab, address = signed_in_tab
    resized(tab.browser, tab, width)
    tab.go(address)
    tab.wait_until(f"location.href == {address!r}")

    assert "user_with_a_rather_long_name" in tab.wait_for("ol.rules li:nth-child(2) .condition")
    assert '<b>"x"</b> < 1' in tab.wait_for("ol.rules li:nth-child(1) .condition")
    assert tab.value("document.documentElement.scrollWidth") <= width
    rules = "[...document.querySelectorAll('ol.rules code')].map(code => code.getBoundingClientRect().right)"
    assert max(tab.value(rules)) <= width
    assert tab.complaints() == []
