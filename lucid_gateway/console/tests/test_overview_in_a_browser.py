"""The overview in a real browser: it refreshes itself, draws in both themes, and works without a script."""

import re
import time
import uuid
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, StorageState, expect

from testing.browser import complaints, noted_requests, screen, sign_in
from testing.gateway import Gateway, running_gateway
from testing.http.client import ask, request_bytes
from testing.servers import running_redis
from testing.waiting import wait_until

PASSWORD = "Correct-Horse-7"
STAFF = f"""
from django.contrib.auth.hashers import make_password
from accounts.models import User
User.objects.create(email="looker@lucid.test", username="looker", role="admin", password=make_password({PASSWORD!r}))
"""
REUSED = """
from accounts.models import User
from lucid_gateway.audit.models import AuditEvent
AuditEvent.objects.create(type="token.reused", subject=str(User.objects.get(username="looker").pk))
"""
BLOCKED = """
from datetime import timedelta
from django.utils import timezone
from ratelimit.models import AddressRule
AddressRule.objects.create(network="192.0.2.7/32", kind="blocked", expires_at=timezone.now() + timedelta(hours=1))
"""


@pytest.fixture(scope="module")
def gateway_with_staff() -> Iterator[Gateway]:
    with running_gateway() as gateway:
        gateway.manage("shell", "--no-imports", "--command", STAFF)
        yield gateway


@pytest.fixture(scope="module")
def site(gateway_with_staff: Gateway) -> str:
    """The address of a gateway whose figures have refused requests."""
    for _ in range(30):
        ask(gateway_with_staff.port, request_bytes("GET", "/api/v1/chain/info"))
    return f"http://127.0.0.1:{gateway_with_staff.port}"


@pytest.fixture(scope="module")
def cookies(browser: Browser, site: str) -> StorageState:
    return sign_in(browser, site, "looker@lucid.test", PASSWORD)


def open_page(browser: Browser, site: str, cookies: StorageState, **options: object) -> Page:
    page = browser.new_page(base_url=site, storage_state=cookies, **(screen(1280) | options))
    page.goto("/admin/")
    return page


def refreshed_at(page: Page) -> int:
    """Return when the page was last refreshed, in milliseconds since the epoch; 0 before the first time."""
    return int(page.locator("#overview").get_attribute("data-refreshed") or 0)


def wait_for_figures(page: Page) -> None:
    """Wait until the page shows the refused requests, which are in the database ten seconds later."""
    expect(page.locator("#reasons")).to_contain_text("credentials missing", timeout=60_000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_plots_are_drawn_without_complaints_in_both_themes(
    browser: Browser, site: str, cookies: StorageState, theme: str
) -> None:
    with open_page(browser, site, cookies, color_scheme=theme) as page:
        wait_for_figures(page)
        expect(page.locator("[data-plot='answers'] canvas")).to_be_visible()

        assert page.locator("canvas").count() == 4
        colours = "getComputedStyle(document.body).backgroundColor"
        assert (page.evaluate(colours) == "rgb(17, 21, 28)") == (theme == "dark")
        assert complaints(page) == []


def test_the_page_refreshes_itself_and_shows_a_new_alarm(
    browser: Browser, site: str, cookies: StorageState, gateway_with_staff: Gateway
) -> None:
    with open_page(browser, site, cookies) as page:
        expect(page.locator("#alarms")).not_to_contain_text("used twice")
        gateway_with_staff.manage("shell", "--no-imports", "--command", REUSED)
        expect(page.locator("#alarms")).to_contain_text("A refresh token of looker@lucid.test was used twice")

        page.get_by_role("link", name="Review user").click()
        expect(page.locator("h1")).to_contain_text("looker")


def test_the_page_asks_one_address_and_stops_while_nobody_looks(
    browser: Browser, site: str, cookies: StorageState
) -> None:
    with open_page(browser, site, cookies) as page:
        wait_until(lambda: refreshed_at(page), every=0.1)
        page.evaluate("""() => {
          Object.defineProperty(document, "hidden", { value: true, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""")
        sent = noted_requests(page)
        time.sleep(6)
        assert sent == []

        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        wait_until(lambda: page.evaluate("0") == 0 and sent, 30)
        assert {request.url for request in sent} == {f"{site}/admin/overview.json?period=1h"}


def test_a_refresh_between_press_and_release_loses_no_click(browser: Browser, site: str, cookies: StorageState) -> None:
    def answer_with_other_cards(route: Route) -> None:
        answer = route.fetch()
        found = answer.json()
        found["parts"]["cards"] += f"<!-- {uuid.uuid4()} -->"
        route.fulfill(response=answer, json=found)

    with open_page(browser, site, cookies) as page:
        page.route("**/overview.json*", answer_with_other_cards)
        page.locator("#cards").get_by_role("link", name=re.compile("Refused")).hover()
        page.mouse.down()
        before = refreshed_at(page)
        wait_until(lambda: refreshed_at(page) > before, every=0.1)
        page.mouse.up()

        expect(page).to_have_url(re.compile("/admin/requests/"))


def test_the_page_of_all_alarms_refreshes_itself(
    browser: Browser, site: str, cookies: StorageState, gateway_with_staff: Gateway
) -> None:
    with open_page(browser, site, cookies) as page:
        page.goto("/admin/alarms/")
        expect(page.locator("#open-alarms")).not_to_contain_text("has blocked")
        gateway_with_staff.manage("shell", "--no-imports", "--command", BLOCKED)

        expect(page.locator("#open-alarms")).to_contain_text("The gateway has blocked 192.0.2.7")
        expect(page.locator("#menu").get_by_role("link", name="Alarms").locator(".count")).not_to_be_empty()
        assert complaints(page) == []


def test_a_gateway_that_does_not_answer_is_a_state_with_words(
    browser: Browser, site: str, cookies: StorageState
) -> None:
    with open_page(browser, site, cookies) as page:
        wait_until(lambda: refreshed_at(page), every=0.1)
        page.route("**/overview.json*", lambda route: route.abort())
        expect(page.locator("#stale")).to_contain_text("the gateway does not answer")
        expect(page.locator("#stale")).to_contain_text(" s old")

        page.unroute("**/overview.json*")
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("#state")).to_contain_text("last hour")


def test_an_error_in_place_of_figures_is_said(browser: Browser, site: str, cookies: StorageState) -> None:
    with open_page(browser, site, cookies) as page:
        page.route("**/overview.json*", lambda route: route.fulfill(status=500, body="broken"))
        expect(page.locator("#stale")).to_contain_text("the gateway answers with status 500")
        expect(page.locator("#cards")).to_contain_text("Requests per second")


def test_an_operator_whose_login_has_ended_is_led_to_a_new_one(
    browser: Browser, site: str, cookies: StorageState
) -> None:
    with open_page(browser, site, cookies) as page:
        wait_until(lambda: refreshed_at(page), every=0.1)
        page.context.clear_cookies()
        expect(page.locator("#stale")).to_contain_text("you are signed out")

        page.get_by_role("link", name="Sign in again").click()
        expect(page).to_have_url(re.compile("/admin/login/"))


def test_a_part_in_use_keeps_the_place_of_the_keyboard(browser: Browser, site: str, cookies: StorageState) -> None:
    with open_page(browser, site, cookies) as page:
        wait_for_figures(page)
        link = page.locator("#offenders a.button").first
        link.focus()
        before = refreshed_at(page)
        wait_until(lambda: refreshed_at(page) > before + 9_000, every=0.1)

        expect(link).to_be_focused()


def test_without_a_script_the_page_has_pictures_and_tables(browser: Browser, site: str, cookies: StorageState) -> None:
    with open_page(browser, site, cookies) as page:
        wait_for_figures(page)
    with open_page(browser, site, cookies, java_script_enabled=False) as page:
        expect(page.locator("[data-plot='answers'] svg polyline").first).to_be_attached()
        expect(page.locator("#reasons")).to_contain_text("credentials missing")
        expect(page.locator("#offenders")).to_contain_text("127.0.0.1")
        page.get_by_role("link", name="24 h").click()
        expect(page.locator("#reasons")).to_contain_text("Last day")


def test_an_open_page_shows_a_lost_redis_and_its_return(browser: Browser) -> None:
    with running_redis() as redis, running_gateway(REDIS_URL=redis.url) as gateway:
        gateway.manage("shell", "--no-imports", "--command", STAFF)
        site = f"http://127.0.0.1:{gateway.port}"
        with open_page(browser, site, sign_in(browser, site, "looker@lucid.test", PASSWORD)) as page:
            expect(page.locator("#alarms")).not_to_contain_text("Redis is unavailable")
            redis.process.kill()
            redis.process.wait()
            expect(page.locator("#alarms")).to_contain_text("Redis is unavailable")
            expect(page.locator("#cards")).to_contain_text("Requests per second")
            expect(page.locator("#strip")).to_contain_text("Redis unavailable")
            expect(page.locator("#menu").get_by_role("link", name="Alarms")).to_contain_text("1")

            with running_redis(redis.port):
                expect(page.locator("#alarms")).not_to_contain_text("Redis is unavailable")


@pytest.mark.parametrize(("plot", "line"), [("logins", "failed"), ("answers", "4xx")])
def test_the_list_behind_a_line_fits_a_phone(
    browser: Browser, site: str, cookies: StorageState, plot: str, line: str
) -> None:
    with browser.new_page(base_url=site, storage_state=cookies, **screen(390)) as page:
        page.goto("/admin/")
        page.locator(f"[data-plot='{plot}'] .legend").get_by_role("link", name=line).click()
        expect(page.locator(".chip.on").filter(has_text="Since")).to_be_visible()

        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert complaints(page) == []
