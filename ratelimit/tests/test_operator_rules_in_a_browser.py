"""The forms of limits and address rules in a real browser: prefill, preview, confirmation of wide rules, undo."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.browser import complaints, sign_in
from testing.gateway import running_gateway

PASSWORD = "Correct-Horse-7"
HOSTILE = '<script>window.ran = 1</script>"><img src=x onerror="window.ran = 1">' + "r" * 100
ADDRESSES, LIMITS = "/admin/ratelimit/addressrule/", "/admin/ratelimit/limitrule/"
MAKE = f"""
from django.contrib.auth.hashers import make_password
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from lucid_gateway.kernel.record import RequestRecord, current

User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
for name in ("ada", "adam"):
    user = User.objects.create(email=name + "@lucid.test", username=name, role="user")
    current.set(RequestRecord(client_address="192.0.2.7"))
    issue_tokens(user)
"""
SCREENS = [
    pytest.param({"viewport": {"width": 1280, "height": 800}}, id="wide"),
    pytest.param({"viewport": {"width": 390, "height": 844}, "is_mobile": True, "color_scheme": "dark"}, id="phone"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of a gateway with two users who have signed in from the same address."""
    with running_gateway() as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(scope="module")
def cookies(browser: Browser, site: str) -> StorageState:
    """The cookies of a super admin who has signed in."""
    return sign_in(browser, site, "looker@lucid.test", PASSWORD)


@pytest.fixture(params=SCREENS)
def operator(browser: Browser, site: str, cookies: StorageState, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window of the super admin. Afterwards no page may have complained, and no text have run as a script."""
    with browser.new_page(base_url=site, storage_state=cookies, **request.param) as page:
        yield page
        assert complaints(page) == []
        assert page.evaluate("window.ran") is None


def fits(page: Page) -> bool:
    """Return whether the page is no wider than its window."""
    too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return bool(too_wide <= 0)


def message(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()


def test_a_link_prefills_the_form_and_its_rule_can_be_undone(operator: Page) -> None:
    operator.goto(f"{ADDRESSES}add/?network=192.0.2.7&kind=blocked")
    message(operator, "2 users seen in the last day, with 2 signed-in devices")
    assert operator.get_by_label("24 hours").is_checked()
    operator.get_by_label("Reason").fill(HOSTILE)
    assert fits(operator)
    operator.get_by_role("button", name="Save").click()

    message(operator, "The rule for 192.0.2.7 was added.")
    assert fits(operator)
    operator.get_by_role("button", name="Undo").click()
    message(operator, "1 rule: undone.")
    expect(operator).to_have_url(re.compile(f"{ADDRESSES}$"))
    expect(operator.get_by_text("There are no address rules.")).to_be_visible()


def test_a_preview_keeps_the_form_and_saves_nothing(operator: Page) -> None:
    operator.goto(f"{ADDRESSES}add/")
    operator.get_by_label("Network").fill("192.0.2.0/24")
    operator.get_by_label("Kind").select_option("deny")
    operator.get_by_label("Reason").fill(HOSTILE)
    operator.get_by_label("7 days").check()
    operator.get_by_role("button", name="Preview who is affected").click()

    message(operator, "2 users seen in the last day")
    expect(operator.get_by_label("Reason")).to_have_value(HOSTILE)
    assert operator.get_by_label("7 days").is_checked()
    operator.goto(ADDRESSES)
    expect(operator.get_by_text("There are no address rules.")).to_be_visible()


def test_a_wide_rule_is_confirmed_with_a_reason(operator: Page) -> None:
    operator.goto(f"{ADDRESSES}add/?network=10.0.0.0/8&kind=halved")
    operator.get_by_label("Reason").fill(HOSTILE)
    operator.get_by_label("1 hour").check()
    operator.get_by_role("button", name="Save").click()

    expect(operator.get_by_text("No user was seen in the last day.")).to_be_visible()
    expect(operator.get_by_label("Reason")).to_have_value(HOSTILE)
    assert fits(operator)
    operator.get_by_label("Reason").fill("an attack")
    operator.get_by_role("button", name="Save the rule for").click()
    message(operator, "The rule for 10.0.0.0/8 (16,777,216 addresses) was added.")
    operator.get_by_role("link", name="10.0.0.0/8").click()
    expect(operator.get_by_text(re.compile("The limits of requests from .* are halved"))).to_be_visible()
    expect(operator.locator(".says")).to_contain_text("an attack")

    operator.get_by_role("button", name="Lift…").click()
    operator.get_by_label("Reason").fill("over")
    operator.get_by_role("button", name="Lift rules").click()
    message(operator, "1 rule lifted.")


def test_a_limit_is_set_by_email_extended_and_undone(operator: Page) -> None:
    operator.goto(f"{LIMITS}add/")
    operator.get_by_role("combobox", name="Tier").select_option("all")
    assert not operator.get_by_label("Burst").is_visible()
    operator.get_by_role("combobox", name="Tier").select_option("authenticated")
    assert operator.get_by_label("Burst").get_attribute("placeholder") == "2,000"
    assert not operator.get_by_label("Daily quota").is_visible()
    operator.get_by_label("Limit").fill("50")
    operator.get_by_label("For whom").fill("lk_abcdefghijkl_" + "S" * 43)
    expect(operator.get_by_label("For whom")).to_have_value("lk_abcdefghijkl")
    operator.get_by_label("For whom").fill("ada@")
    operator.get_by_label("24 hours").check()
    operator.get_by_role("button", name="Save").click()
    expect(operator.get_by_text("Did you mean ada@lucid.test?")).to_be_visible()
    assert fits(operator)
    operator.get_by_label("For whom").fill("ada@lucid.test")
    operator.get_by_role("button", name="Save").click()

    message(operator, "The rule for ada@lucid.test was added.")
    rule = operator.get_by_role("row").filter(has_text="ada@lucid.test")
    expect(rule).to_contain_text("50 a minute")
    rule.get_by_role("button", name="Extend…").click()
    operator.get_by_label("For good").check()
    operator.get_by_role("button", name="Extend rules").click()
    message(operator, "1 rule extended.")
    expect(rule.get_by_role("button", name="Extend…")).to_have_count(0)

    operator.goto("/admin/undo/")
    assert fits(operator)
    operator.get_by_role("button", name="Undo").first.click()
    message(operator, "1 rule: undone.")
    operator.get_by_role("button", name="Undo").first.click()
    message(operator, "1 rule: undone.")
    operator.goto(LIMITS)
    expect(operator.get_by_text("There are no limit rules.")).to_be_visible()


def test_an_exact_time_chooses_itself(operator: Page) -> None:
    operator.goto(f"{ADDRESSES}add/?network=192.0.2.7&kind=blocked")
    operator.get_by_label("Exact end").fill("2099-01-02T03:04")

    assert operator.get_by_label("Until the exact time below").is_checked()
