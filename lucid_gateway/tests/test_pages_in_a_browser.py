"""Every page of the gateway in a real browser: nothing on it breaks its content security policy, whatever the width."""

import shutil
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.urls import resolve

from testing.chromium import Chromium, Tab, running_chromium
from testing.gateway import Gateway, running_gateway

PASSWORD = "Correct-Horse-7"
# A row for each list of the operator pages.
MAKE = f"""
from datetime import timedelta
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from proxy.models import Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, TrustPolicy

staff = User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
issue_tokens(staff)
create_api_key(staff, name="key", permissions=["user:read"])
session = create_session(staff.pk, name="a session")
Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
TrustPolicy.objects.create(user=staff, slot=1, name="policy", rules=[{{
    "rule_id": "r", "type": "allow", "condition": "user.age >= 18", "action": "session.view", "priority": 1,
    "enabled": True}}])
LimitRule.objects.create(tier="public", limit=5000, reason="because")
AddressRule.objects.create(network="203.0.113.0/24", kind="deny", reason="because")
Maintenance.objects.create(
    cluster="tron_payment", kind="drain", reason="because", starts_at=timezone.now() + timedelta(days=1))
"""
# Addresses on the page that lead to operator pages, without those that end the session or download.
LINKS = """[...document.querySelectorAll("a[href]")].map(a => new URL(a.href))
    .filter(a => a.origin === location.origin && a.pathname.startsWith("/admin/") && !a.pathname.includes("/export/"))
    .map(a => a.pathname + a.search).join(" ")"""
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def site() -> Iterator[Gateway]:
    """A gateway with a row for each list of the operator pages."""
    with running_gateway(API_DOCS_ENABLED="true") as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield gateway


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """The browser; the tests are skipped where there is none."""
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    with running_chromium(binary) as running:
        yield running


def resize(tab: Tab, width: int) -> None:
    """Give the window another width."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    tab.browser.call("Emulation.setDeviceMetricsOverride", tab.session, **size)


def open_page(tab: Tab, address: str) -> None:
    """Go to a page and wait until it is loaded."""
    tab.value("window.left = true")
    tab.go(address)
    tab.wait_until("!window.left && document.readyState === 'complete'")


def look_at(tab: Tab, address: str) -> None:
    """Look at a page at each width; fail if the browser complains."""
    open_page(tab, address)
    for width in WIDTHS:
        resize(tab, width)
        tab.value("document.body.getBoundingClientRect()")
    assert tab.complaints() == [], address


@pytest.fixture(scope="module")
def operator(site: Gateway, chromium: Chromium) -> Iterator[Tab]:
    """A tab in which a super admin has signed in."""
    with chromium.tab(f"http://127.0.0.1:{site.port}/admin/login/?next=/admin/") as tab:
        tab.type("#id_username", "looker@lucid.test")
        tab.type("#id_password", PASSWORD)
        tab.press("[type=submit]")
        tab.wait_until("location.pathname == '/admin/'")
        yield tab


def test_no_operator_page_breaks_its_policy(site: Gateway, operator: Tab) -> None:
    base, waiting, views = f"http://127.0.0.1:{site.port}", ["/admin/"], {"admin:logout"}
    while waiting:
        path = waiting.pop()
        view = resolve(path.partition("?")[0]).view_name
        if view not in views:
            views.add(view)
            look_at(operator, base + path)
            waiting += operator.value(LINKS).split()

    lists = {f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry}
    assert lists <= views


def test_what_operators_use_on_a_page_works_under_its_policy(site: Gateway, operator: Tab) -> None:
    base = f"http://127.0.0.1:{site.port}/admin"
    open_page(operator, f"{base}/proxy/maintenance/add/")
    operator.press(".datetimeshortcuts a[id^=calendarlink]")
    operator.press(".calendar td a")
    assert operator.value("document.querySelector('#id_starts_at_0').value")
    operator.press("header .theme-toggle")

    open_page(operator, f"{base}/accounts/user/")
    operator.press("#action-toggle")
    operator.value("document.querySelector('select[name=action]').selectedIndex = 1")
    operator.press("button[name=index]")
    operator.wait_for("form .submit-row")
    assert operator.complaints() == []


@pytest.mark.parametrize("path", ["/admin/", "/docs", "/login"])
def test_a_script_that_was_written_into_a_page_does_not_run(site: Gateway, operator: Tab, path: str) -> None:
    open_page(operator, f"http://127.0.0.1:{site.port}{path}")
    operator.value("""{
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = true'>");
    }""")
    operator.wait_until("document.querySelector('img[onerror]').complete")

    assert operator.value("window.ran") is None
    assert len([text for text in operator.complaints() if "Content Security Policy" in text]) >= 2


@pytest.mark.parametrize(
    ("path", "operation"), [("/docs", ".opblock-summary"), ("/redoc", "[data-section-id^='tag/auth']")]
)
def test_the_api_documents_ask_no_other_host(site: Gateway, chromium: Chromium, path: str, operation: str) -> None:
    base = f"http://127.0.0.1:{site.port}"
    with chromium.tab(base + path) as tab:
        for width in WIDTHS:
            resize(tab, width)
            tab.wait_for(operation)
        tab.press(operation)

        assert tab.complaints() == []
        assert {request.split()[1].partition(":")[0] for request in tab.requests()} <= {"http", "data", "blob"}
        assert all(base in request for request in tab.requests() if " http" in request)


def test_redoc_can_be_searched(site: Gateway, chromium: Chromium) -> None:
    with chromium.tab("about:blank") as tab:
        resize(tab, WIDTHS[0])
        open_page(tab, f"http://127.0.0.1:{site.port}/redoc")
        tab.type("[role=search] input", "wallets")
        tab.wait_for("[data-role='search:results'] li")

        assert tab.complaints() == []
