"""The clusters page in a real browser, in front of a gateway with a live, a dead and a hung instance."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, StorageState, expect

from testing.browser import complaints, screen, sign_in
from testing.gateway import Gateway, running_gateway
from testing.http.cluster import RawCluster, saying
from testing.servers import free_port

PASSWORD = "Correct-Horse-7"
STAFF = f"""
from django.contrib.auth.hashers import make_password
from accounts.models import User
User.objects.create(email="looker@lucid.test", username="looker", role="admin", password=make_password({PASSWORD!r}))
"""
CLUSTERS = "/admin/proxy/maintenance/"


@dataclass(frozen=True)
class Stage:
    """A gateway whose cluster blockchain_core has a live and a dead instance, and tron_payment a hung one."""

    gateway: Gateway
    live: RawCluster
    dead: str
    hung: RawCluster

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with RawCluster() as live, RawCluster() as hung:
        hung.behaviour = saying()
        dead = f"http://127.0.0.1:{free_port()}"
        with running_gateway(
            BLOCKCHAIN_CORE_URL=f"{live.url},{dead}",
            TRON_PAYMENT_URL=hung.url,
            CLUSTER_HEALTH_CHECKS_ENABLED="true",
            HEALTH_CHECK_INTERVAL="1",
        ) as gateway:
            gateway.manage("shell", "--no-imports", "--command", STAFF)
            yield Stage(gateway, live, dead, hung)


@pytest.fixture(scope="module")
def cookies(browser: Browser, stage: Stage) -> StorageState:
    return sign_in(browser, stage.site, "looker@lucid.test", PASSWORD)


@pytest.fixture
def operator(browser: Browser, stage: Stage, cookies: StorageState) -> Iterator[Page]:
    """A page of an admin who has signed in."""
    with browser.new_page(base_url=stage.site, storage_state=cookies, **screen(1280)) as page:
        yield page


def instance(page: Page, url: str) -> Locator:
    """Return the two lines of an instance."""
    return page.locator("table.instances tbody").filter(has_text=url)


def said(page: Page, text: str) -> Locator:
    """Return the message with the text; above it, banners say what is down."""
    return page.get_by_role("status").filter(has_text=text)


def test_a_dead_and_a_hung_instance_are_down_with_their_reasons(operator: Page, stage: Stage) -> None:
    operator.goto(CLUSTERS)

    expect(instance(operator, stage.live.url)).to_contain_text("up")
    expect(instance(operator, stage.dead)).to_contain_text(
        re.compile("down.*Went down .* ago: connection refused", re.S)
    )
    expect(instance(operator, stage.hung.url)).to_contain_text(
        re.compile("Went down .* ago: no answer within 2 s", re.S)
    )
    expect(operator.locator("#blockchain_core")).to_contain_text(f"Callers are served by {stage.live.url}.")
    assert complaints(operator) == []


def test_an_instance_is_taken_out_of_service_on_its_row_and_put_back(operator: Page, stage: Stage) -> None:
    operator.goto(CLUSTERS)
    instance(operator, stage.dead).get_by_role("link", name="Take out of service…").click()
    operator.get_by_label("Maintenance: no health checks").check()
    operator.get_by_label("1 hour").check()
    operator.get_by_label("Reason").fill("a new disk")
    operator.get_by_role("button", name="Take the instance out of service").click()

    expect(said(operator, f"{stage.dead} is out of service.")).to_be_visible()
    expect(instance(operator, stage.dead)).to_contain_text("in maintenance")
    expect(operator.locator("#blockchain_core")).to_contain_text(": a new disk")

    instance(operator, stage.dead).get_by_role("button", name="Put back").click()
    expect(said(operator, "gets requests again")).to_be_visible()
    expect(instance(operator, stage.dead)).not_to_contain_text("in maintenance")
    operator.get_by_text("Maintenance history").click()
    expect(operator.locator("#result_list")).to_contain_text("a new disk")
    assert complaints(operator) == []


def test_the_page_refreshes_itself(operator: Page, stage: Stage) -> None:
    operator.goto(CLUSTERS)
    operator.locator("#blockchain_core h2").evaluate("heading => { heading.textContent = 'an old one'; }")
    button = instance(operator, stage.live.url).get_by_role("link", name="Take out of service…")
    button.focus()

    expect(operator.locator("#blockchain_core h2")).to_contain_text("blockchain_core")
    expect(button).to_be_focused()
    assert complaints(operator) == []


def test_the_page_says_how_old_its_figures_are(operator: Page) -> None:
    def fail(route: Route) -> None:
        route.fulfill(json={"parts": {"cluster-cards": ""}, "problem": "Redis is unavailable"})

    operator.route("**/now.json", fail)
    operator.goto(CLUSTERS)
    expect(operator.locator("#stale")).to_have_text(re.compile(r"Figures are \d+ s old: Redis is unavailable"))
    expect(operator.locator("#blockchain_core")).to_be_visible()

    operator.unroute("**/now.json")
    expect(operator.locator("#stale")).to_be_hidden()
    assert complaints(operator) == []


def test_a_signed_out_operator_is_told_so(operator: Page) -> None:
    operator.goto(CLUSTERS)
    operator.context.clear_cookies()
    expect(operator.locator("#stale")).to_contain_text("you are signed out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser: Browser, stage: Stage, cookies: StorageState, scheme: str) -> None:
    with browser.new_page(base_url=stage.site, storage_state=cookies, color_scheme=scheme, **screen(390)) as page:  # type: ignore[arg-type]
        page.goto(CLUSTERS)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        expect(instance(page, stage.live.url).get_by_role("link", name="Take out of service…")).to_be_visible()
        assert complaints(page) == []
