"""Every page of the console in a real browser, with long and hostile values, on phones too, and in both themes."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.urls import resolve
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.browser import complaints, sign_in
from testing.gateway import running_gateway

PASSWORD = "Correct-Horse-7"
# Rows for each list. Every text that users or operators choose is a script or as long as its field allows.
MAKE = f"""
from datetime import timedelta
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from accounts.users.locks import lock_user
from lucid_gateway.kernel.record import RequestRecord, current
from proxy.models import Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, TrustPolicy

script = '<script>window.ran = 1</script>"><img src=x onerror="window.ran = 1">'
staff = User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
for number in range(20):
    User.objects.create(email=f"user{{number}}@lucid.test", username=f"user{{number}}", role="user")
user = User.objects.create(
    email="m" * 60 + "@" + "x" * 60 + ".lucid.test", username="u" * 50, role="user", first_name=script,
    last_name="n" * 100)
current.set(RequestRecord(client_address="2001:db8:1111:2222:3333:4444:5555:6666", user_agent=script + "a" * 150))
issue_tokens(user)
create_api_key(user, name=(script + "k" * 100)[:100], permissions=["user:read"])
lock_user(user, reason=(script + "r" * 200)[:200], by=staff)
for name in (script, "s" * 255):
    session = create_session(user.pk, name=name, description="d" * 1000)
    Chunk.objects.create(session=session, index=0, size=123_456_789, hash="0" * 64, state="recorded")
make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
TrustPolicy.objects.create(user=user, slot=1, name=script, description="p" * 900, rules=[{{
    "rule_id": "r" * 100, "type": "allow", "condition": "user.age >= 18", "action": "session.view", "priority": 1,
    "enabled": True}}])
LimitRule.objects.create(tier="public", limit=5000, reason=script)
LimitRule.objects.create(tier="authenticated", subject=f"user:{{user.pk}}", limit=50, reason="w" * 200)
AddressRule.objects.create(network="203.0.113.0/24", kind="deny", reason=script)
AddressRule.objects.create(
    network="2001:db8::/48", kind="blocked", reason="w" * 200, expires_at=timezone.now() + timedelta(hours=3))
Maintenance.objects.create(
    cluster="tron_payment", kind="drain", reason=script, starts_at=timezone.now() + timedelta(days=1))
"""
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of a gateway with hostile rows in each list of the console."""
    with running_gateway() as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(scope="module")
def cookies(browser: Browser, site: str) -> StorageState:
    """The cookies of a super admin who has signed in."""
    return sign_in(browser, site, "looker@lucid.test", PASSWORD)


@pytest.fixture
def operator(browser: Browser, site: str, cookies: StorageState) -> Iterator[Page]:
    """A wide window of a super admin who has signed in."""
    with browser.new_page(base_url=site, storage_state=cookies, viewport=WIDE) as page:
        yield page


def links(page: Page, site: str) -> list[str]:
    """Return the links to operator pages, without the downloads."""
    addresses = page.locator("a[href]").evaluate_all("links => links.map(link => link.href)")
    return [address for address in addresses if address.startswith(f"{site}/admin/") and "/export/" not in address]


def one_of_each(page: Page, site: str) -> Iterator[str]:
    """Open a page of each view that a chain of links leads to, and yield its address."""
    waiting, views = [f"{site}/admin/"], {"admin:logout"}
    while waiting:
        address = waiting.pop()
        view = resolve(urlsplit(address).path).view_name
        if view not in views:
            views.add(view)
            page.goto(address)
            waiting += links(page, site)
            yield address
    lists = {f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry}
    assert lists <= views


def serious_findings(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds on the page, with the elements concerned."""
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{finding['id']}: {finding['nodes'][0]['html']}" for finding in found if finding["impact"] in SERIOUS]


def test_every_page_is_accessible_and_fits_its_window_in_both_themes(site: str, operator: Page) -> None:
    problems: list[str] = []
    heard = 0
    for address in one_of_each(operator, site):
        path = address.removeprefix(site)
        problems += [f"{path}: {text}" for text in complaints(operator)[heard:]]
        for size in (WIDE, NARROW):
            operator.set_viewport_size(size)  # type: ignore[arg-type]
            too_wide = operator.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if too_wide > 0:
                problems.append(f"{path} at {size['width']}: {too_wide} pixels too wide")
        problems += [f"{path} at 390: {finding}" for finding in serious_findings(operator)]
        operator.set_viewport_size(WIDE)  # type: ignore[arg-type]
        problems += [f"{path}: {finding}" for finding in serious_findings(operator)]
        operator.emulate_media(color_scheme="dark")
        problems += [f"{path}, dark: {finding}" for finding in serious_findings(operator, "color-contrast")]
        operator.emulate_media(color_scheme="light")
        heard = len(complaints(operator))  # axe-core's own attempts to add styles are no fault of the page
        if operator.evaluate("window.ran") is not None:
            problems.append(f"{path}: a text ran as a script")
    assert not problems, "\n".join(problems)


def test_a_list_shows_twelve_rows_without_scrolling(operator: Page) -> None:
    operator.goto("/admin/accounts/user/")
    bottoms = "rows => rows.map(row => row.getBoundingClientRect().bottom)"
    visible = [bottom for bottom in operator.locator("#result_list tbody tr").evaluate_all(bottoms) if bottom <= 800]
    assert len(visible) >= 12


def test_a_slash_focuses_the_search_of_the_list(operator: Page) -> None:
    operator.goto("/admin/accounts/user/")
    operator.keyboard.press("/")
    assert operator.evaluate("document.activeElement.id") == "searchbar"
    operator.keyboard.type("user7@")
    operator.keyboard.press("Enter")
    expect(operator.locator("#result_list tbody tr")).to_have_count(1)


def test_the_menu_opens_on_a_phone(operator: Page) -> None:
    operator.set_viewport_size(NARROW)  # type: ignore[arg-type]
    operator.goto("/admin/")
    menu = operator.get_by_role("navigation", name="Console")
    assert not menu.is_visible()
    operator.get_by_role("button", name="Menu").click()
    menu.get_by_role("link", name="API keys").click()
    expect(operator).to_have_url(re.compile("/admin/accounts/apikey/$"))


def test_times_are_shown_in_the_zone_of_the_viewer(browser: Browser, site: str, cookies: StorageState) -> None:
    zone = {"timezone_id": "Asia/Kolkata", "viewport": WIDE}
    with browser.new_page(base_url=site, storage_state=cookies, **zone) as page:
        page.goto("/admin/accounts/user/")
        time = page.locator("#result_list time").first
        shown, utc = time.get_attribute("title") or "", time.get_attribute("datetime") or ""
        assert "UTC" in shown
        minutes = page.evaluate("moment => new Date(moment).getMinutes()", utc)
        assert f":{minutes:02} here" in shown
