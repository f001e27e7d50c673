"""The search for requests in a browser: a pasted secret never leaves it, and a search leads to cause and remedy."""

import base64
import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from testing.browser import noted_requests, sign_in
from testing.gateway import Gateway, running_gateway
from testing.hammer import api
from testing.http.client import ask
from testing.waiting import wait_until

PASSWORD = "Correct-Horse-7"
MAKE = f"""
from django.contrib.auth.hashers import make_password
from accounts.api_keys import create_api_key
from accounts.models import User

User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
owner = User.objects.create(email="ops@partner.example", username="partner", role="user")
print(create_api_key(owner, name="indexer-prod", permissions=["user:read"])[1])
"""


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Gateway, str]]:
    """A gateway, and an API key whose request was refused and can be looked up."""
    with running_gateway(EXPLORER_SAMPLE_PERCENT="0") as gateway:
        key = gateway.manage("shell", "--no-imports", "--command", MAKE).strip()
        refused = ask(gateway.port, api("GET", "/admin/users", key=key)).header("X-Request-ID")
        staff = gateway.issue_token("admin@lucid.test")
        asked = api("GET", f"/admin/requests/{refused}", token=staff)
        wait_until(lambda: ask(gateway.port, asked).status == 200, every=0.2)
        yield gateway, key


@pytest.fixture
def operator(browser: Browser, site: tuple[Gateway, str]) -> Iterator[Page]:
    """The list of requests, opened by a super admin."""
    base_url = f"http://127.0.0.1:{site[0].port}"
    cookies = sign_in(browser, base_url, "looker@lucid.test", PASSWORD)
    with browser.new_page(base_url=base_url, storage_state=cookies) as page:
        page.goto("/admin/requests/")
        yield page


def test_of_a_pasted_api_key_only_the_prefix_is_sent(operator: Page, site: tuple[Gateway, str]) -> None:
    key, search, requests = site[1], operator.locator("#searchbar"), noted_requests(operator)
    search.fill(f"  {key}\n")
    expect(search).to_have_value(key[:15])
    search.press("Enter")

    expect(operator.get_by_role("link", name="indexer-prod")).to_be_visible()
    expect(operator.locator(".chip.on")).to_contain_text(key[:15])
    sent = [f"{request.url} {request.post_data}" for request in requests]
    assert any(key[:15] in text for text in sent)
    assert not any(key[16:] in text for text in sent)
    assert key[16:] not in site[0].log.read_text()


def test_of_a_typed_api_key_only_the_prefix_is_sent(operator: Page, site: tuple[Gateway, str]) -> None:
    key, requests = site[1], noted_requests(operator)
    operator.locator("#searchbar").press_sequentially(key)
    operator.locator("#searchbar").press("Enter")

    expect(operator.locator(".chip.on")).to_contain_text(key[:15])
    sent = [f"{request.url} {request.post_data}" for request in requests]
    assert not any(key[-10:] in text or key[17:27] in text for text in sent)


def test_of_a_part_of_a_pasted_api_key_only_the_prefix_is_sent(operator: Page, site: tuple[Gateway, str]) -> None:
    operator.locator("#searchbar").fill(site[1][:-7])

    expect(operator.locator("#searchbar")).to_have_value(site[1][:15])


def test_of_a_pasted_token_only_the_jti_is_sent(operator: Page) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"jti": "a" * 32}).encode()).decode().rstrip("=")
    search = operator.locator("#searchbar")

    search.fill(f"Bearer eyJhbGciOiJIUzI1NiJ9.{claims}.c2lnbmF0dXJl")

    expect(search).to_have_value("a" * 32)


def test_a_search_leads_to_the_cause_and_the_remedy(operator: Page) -> None:
    operator.locator("#searchbar").fill("indexer-prod")
    operator.get_by_role("button", name="Search").click()
    operator.get_by_role("link", name="GET /api/v1/admin/users").click()

    expect(operator.locator(".says")).to_contain_text("Refused: the permission admin:read is missing.")
    operator.get_by_role("link", name="Open the API key").click()
    expect(operator.get_by_role("heading", level=1)).to_contain_text("indexer-prod")


def test_filters_apply_together(operator: Page) -> None:
    operator.get_by_text("Filters", exact=True).click()
    operator.get_by_label("Status").select_option("403")
    operator.get_by_label("Network").fill("127.0.0.0/8")
    operator.get_by_role("button", name="Apply").click()

    expect(operator.locator(".chip.on")).to_have_count(2)
    expect(operator.locator("table.requests tbody tr")).to_have_count(1)
