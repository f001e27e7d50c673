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
from testing.edge import SECRET
from testing.gateway import Gateway, running_gateway

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
from lucid_gateway.explorer.tests.stage import kept
from lucid_gateway.kernel.record import RequestRecord, current
from proxy.models import EdgeExclusion, Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, TrustPolicy

script = '<script>window.ran = 1</script>"><img src=x onerror="window.ran = 1">'
staff = User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
user = User.objects.create(
    email="m" * 60 + "@" + "x" * 60 + ".lucid.test", username="u" * 50, role="user", first_name=script,
    last_name="n" * 100)
record = RequestRecord(client_address="2001:db8:1111:2222:3333:4444:5555:6666", user_agent=script + "a" * 150)
record.request_id = "i" * 100
current.set(record)
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
for path, reason in (("wallets", script), ("chain/info", "w" * 200), ("", script + "w" * 150)):
    EdgeExclusion.objects.create(path=path, reason=reason, created_by=user.email)
for number in range(14):  # enough for a window
    mail = f"user{{number}}@" + "y" * 60 + ".lucid.test"
    other = User.objects.create(email=mail, username=f"user{{number}}" + "z" * 30, role="user")
    lock_user(other, reason=script, by=staff)
    issue_tokens(other)
    create_api_key(other, name=(script + "k" * 100)[:100], permissions=["user:read"])
    session = create_session(other.pk, name=script + "s" * 200)
    Chunk.objects.create(session=session, index=0, size=123_456_789, hash="0" * 64, state="recorded")
    make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
    TrustPolicy.objects.create(user=other, slot=1, name=script + "p" * 50, rules=[])
    LimitRule.objects.create(tier="authenticated", subject=f"user:{{other.pk}}", limit=50, reason="w" * 200)
    AddressRule.objects.create(network=f"2001:db8:1111:{{number}}::/64", kind="deny", reason="w" * 200)
    kept(path="/api/v1/" + "q" * 400, user_id=str(other.pk), address="2001:db8:1111:2222:3333:4444:5555:6666",
         reason="upload_size_mismatch", status=422, request_id="i" * 100)
"""
# Each ends after a minute.
LOCK_OUT = """
from accounts.lockouts import GuessAttempt, account
for number in range(14):
    for failure in range(10):
        GuessAttempt(account(f"guessed{number}@" + "y" * 60 + ".lucid.test"))
"""
LISTS = [
    "accounts/user", "accounts/apikey", "accounts/signin", "accounts/issuedtoken", "audit/auditevent",
    "ratelimit/limitrule", "ratelimit/addressrule", "sessions_api/session", "sessions_api/manifest",
    "sessions_api/trustpolicy", "requests",
]  # fmt: skip
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway that knows an edge, with hostile rows in each list of the console."""
    with running_gateway(EDGE_SECRET=SECRET) as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield gateway


@pytest.fixture(scope="module")
def site(gateway: Gateway) -> str:
    """The address of the gateway."""
    return f"http://127.0.0.1:{gateway.port}"


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


# The texts of a table that do not fit, as [text, what shows on hover, what its button copies].
CUT_OFF = """() => [...document.querySelectorAll(".list tbody *")]
  .filter(text => getComputedStyle(text).textOverflow === "ellipsis" && text.scrollWidth > text.clientWidth)
  .map(text => [text.textContent, text.title, (text.closest("a") ?? text).nextElementSibling?.dataset.copy])"""


def problems_of_list(page: Page, path: str) -> list[str]:
    """Return what the list does not do as lists should; it has more rows than a window, with long values."""
    page.goto(f"/admin/{path}/")
    bottoms = "rows => rows.map(row => row.getBoundingClientRect().bottom)"
    rows = page.locator(".list table.rows tbody tr").evaluate_all(bottoms)
    visible = sum(bottom <= WIDE["height"] for bottom in rows)
    too_wide = page.locator(".list .scroll").first.evaluate("table => table.scrollWidth - table.clientWidth")
    cut_off = page.evaluate(CUT_OFF)
    not_copied = [(text, copied) for text, whole, copied in cut_off if whole != copied]
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.outerHTML")
    checks = {
        f"shows {visible} of {len(rows)} rows": visible < 12,
        f"is {too_wide} pixels too wide": too_wide > 0,
        "cuts no text off": not cut_off,
        f"does not copy {not_copied[:3]}": not_copied,
        f"begins with {focused}": 'type="search"' not in focused,
    }
    return [text for text, fails in checks.items() if fails]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_begins_with_its_search_shows_twelve_rows_and_copies_what_it_cuts_off(operator: Page, path: str) -> None:
    assert problems_of_list(operator, path) == []


def test_the_lockouts_are_such_a_list(operator: Page, gateway: Gateway) -> None:
    gateway.manage("shell", "--no-imports", "--command", LOCK_OUT)

    assert problems_of_list(operator, "accounts/automaticlockout") == []


def test_a_page_that_asks_before_an_action_is_accessible_and_fits_its_window(operator: Page) -> None:
    operator.goto("/admin/accounts/user/?q=mmm")
    operator.get_by_role("button", name="Unlock…").first.click()
    operator.get_by_role("button", name="Unlock users").wait_for()
    assert serious_findings(operator) == []
    for size in (WIDE, NARROW):
        operator.set_viewport_size(size)  # type: ignore[arg-type]
        assert operator.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert operator.locator("main li").first.evaluate("row => row.scrollWidth - row.clientWidth") <= 0


@pytest.mark.parametrize("route", ["wallets", "all"])
def test_the_page_that_takes_routes_off_the_edge_is_accessible_and_fits_its_window(operator: Page, route: str) -> None:
    operator.goto(f"/admin/routes/edge/off/?route={route}")
    operator.get_by_role("button", name="off the edge").wait_for()
    assert serious_findings(operator) == []
    for size in (WIDE, NARROW):
        operator.set_viewport_size(size)  # type: ignore[arg-type]
        assert operator.evaluate("document.documentElement.scrollWidth") <= size["width"]


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
    operator.get_by_role("link", name="Menu", exact=True).click()
    menu.get_by_role("link", name="API keys").click()
    expect(operator).to_have_url(re.compile("/admin/accounts/apikey/$"))


def test_the_menu_opens_on_a_phone_without_a_script(browser: Browser, site: str, cookies: StorageState) -> None:
    phone: dict[str, Any] = {"viewport": NARROW, "java_script_enabled": False}
    with browser.new_page(base_url=site, storage_state=cookies, **phone) as page:
        page.goto("/admin/accounts/user/")
        menu = page.get_by_role("navigation", name="Console")
        page.get_by_role("link", name="Menu", exact=True).click()
        expect(menu).to_be_visible()
        menu.get_by_role("link", name="Close the menu").click()
        expect(menu).not_to_be_visible()
        page.get_by_role("link", name="Menu", exact=True).click()
        menu.get_by_role("link", name="API keys").click()
        expect(page).to_have_url(re.compile("/admin/accounts/apikey/$"))


def test_times_are_shown_in_the_zone_of_the_viewer(browser: Browser, site: str, cookies: StorageState) -> None:
    zone = {"timezone_id": "Asia/Kolkata", "viewport": WIDE}
    with browser.new_page(base_url=site, storage_state=cookies, **zone) as page:
        page.goto("/admin/accounts/user/")
        time = page.locator("#result_list time").first
        shown, utc = time.get_attribute("title") or "", time.get_attribute("datetime") or ""
        assert "UTC" in shown
        minutes = page.evaluate("moment => new Date(moment).getMinutes()", utc)
        assert f":{minutes:02} here" in shown
