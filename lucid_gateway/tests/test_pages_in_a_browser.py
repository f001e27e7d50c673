"""Every page of the gateway in a real browser respects its content security policy, at each width."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from testing.browser import complaints, noted_requests, screen, sign_in
from testing.gateway import running_gateway

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
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of a gateway with a row for each list of the operator pages."""
    with running_gateway(API_DOCS_ENABLED="true") as gateway:
        gateway.manage("shell", "--no-imports", "--command", MAKE)
        yield f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(scope="module")
def cookies(browser: Browser, site: str) -> StorageState:
    """The cookies of a super admin who has signed in."""
    return sign_in(browser, site, "looker@lucid.test", PASSWORD)


@pytest.fixture(params=WIDTHS)
def operator(request: pytest.FixtureRequest, browser: Browser, site: str, cookies: StorageState) -> Iterator[Page]:
    """A page of a super admin who has signed in, at each width."""
    with browser.new_page(base_url=site, storage_state=cookies, **screen(request.param)) as page:
        yield page


@pytest.fixture(params=WIDTHS)
def visitor(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[Page]:
    """A page of a visitor who has not signed in, at each width."""
    with browser.new_page(base_url=site, **screen(request.param)) as page:
        yield page


def test_the_controls_of_operator_pages_work_under_the_policy(operator: Page) -> None:
    operator.goto("/admin/proxy/maintenance/add/")
    operator.locator("#id_starts_at").fill("2999-01-02T03:04")
    before = operator.locator("html").get_attribute("data-theme")
    operator.locator("header .theme-toggle").click()
    expect(operator.locator("html")).not_to_have_attribute("data-theme", before or "")

    operator.goto("/admin/accounts/user/")
    operator.locator("#action-toggle").check()
    operator.locator("select[name=action]").select_option(index=1)
    operator.locator("button[name=index]").click()
    expect(operator.locator("form .submit-row")).to_be_visible()
    assert complaints(operator) == []


@pytest.mark.parametrize("path", ["/admin/", "/docs", "/login"])
def test_a_script_injected_into_a_page_does_not_run(operator: Page, path: str) -> None:
    operator.goto(path)
    operator.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = true'>");
    }""")
    expect(operator.locator("img[onerror]")).to_have_js_property("complete", True)

    assert operator.evaluate("window.ran") is None
    assert len([text for text in complaints(operator) if "Content Security Policy" in text]) >= 2


@pytest.mark.parametrize(
    ("path", "operation"), [("/docs", ".opblock-summary"), ("/redoc", "[data-section-id^='tag/auth']")]
)
def test_the_api_documents_load_nothing_from_other_hosts(site: str, visitor: Page, path: str, operation: str) -> None:
    sent = noted_requests(visitor)
    visitor.goto(path)
    visitor.locator(operation).first.click()

    assert complaints(visitor) == []
    addresses = [request.url for request in sent]
    assert {urlsplit(address).scheme for address in addresses} <= {"http", "data", "blob"}
    assert all(address.startswith(site) for address in addresses if address.startswith("http"))


def test_redoc_can_be_searched(site: str, tab: Page) -> None:
    tab.goto(f"{site}/redoc")
    tab.get_by_role("search").get_by_role("textbox").fill("wallets")
    expect(tab.locator("[data-role='search:results'] li").first).to_be_visible()

    assert complaints(tab) == []
