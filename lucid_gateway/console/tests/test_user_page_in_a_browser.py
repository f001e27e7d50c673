"""The page of one user and the global search in a real browser: each button through its confirmation, and hostile
values on phones and in the dark.
"""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, StorageState, expect

from testing.browser import complaints, screen, sign_in
from testing.gateway import Gateway, running_gateway

PASSWORD = "Correct-Horse-7"
MAKE = f"""
import json
from django.contrib.auth.hashers import make_password
from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.record import RequestRecord, current
from ratelimit.models import LimitRule

script = '<script>window.ran = 1</script>"><img src=x onerror="window.ran = 1">'
User.objects.create(
    email="looker@lucid.test", username="looker", role="super_admin", password=make_password({PASSWORD!r}))
agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
current.set(RequestRecord(client_address="198.51.100.20", user_agent=agent))
user = User.objects.create(email="mallory@lucid.test", username="mallory", role="user", totp_enabled=True)
issue_tokens(user)
key, text = create_api_key(user, name="nightly", permissions=["user:read"])
hostile = User.objects.create(
    email="m" * 60 + "@" + "x" * 180 + ".test", username="u" * 50, role="user", first_name=script, last_name="n" * 100)
current.set(RequestRecord(client_address="2001:db8:1111:2222:3333:4444:5555:6666", user_agent=script + "a" * 150))
issue_tokens(hostile)
create_api_key(hostile, name=(script + "k" * 100)[:100], permissions=["user:read"])
record("user.updated", subject=hostile, changes={{"email": ["o" * 200, script]}}, reason=script + "r" * 100)
record("token.reused", subject=hostile, outcome="failure", family="no family")
LimitRule.objects.create(tier="authenticated", subject=f"user:{{hostile.pk}}", limit=50, reason="w" * 200)
print(json.dumps({{"user": str(user.pk), "hostile": str(hostile.pk), "key": key.pk, "text": text}}))
"""
LOCK_OUT = """
from accounts.lockouts import GuessAttempt, account
for _ in range(10):
    GuessAttempt(account("mallory@lucid.test"))
"""


@pytest.fixture(scope="module")
def own_gateway() -> Iterator[Gateway]:
    """A gateway of its own."""
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def site(own_gateway: Gateway) -> str:
    """The address of the gateway."""
    return f"http://127.0.0.1:{own_gateway.port}"


@pytest.fixture(scope="module")
def made(own_gateway: Gateway) -> dict[str, str]:
    """What was made: a user with everything that a button can end, and one with hostile values."""
    printed = own_gateway.manage("shell", "--no-imports", "--command", MAKE)
    values: dict[str, str] = json.loads(printed.strip().splitlines()[-1])
    return values


@pytest.fixture(scope="module")
def cookies(browser: Browser, site: str, made: dict[str, str]) -> StorageState:
    """The cookies of a super admin who has signed in."""
    return sign_in(browser, site, "looker@lucid.test", PASSWORD)


@pytest.fixture
def operator(browser: Browser, site: str, cookies: StorageState) -> Iterator[Page]:
    """A wide page of the super admin."""
    with browser.new_page(base_url=site, storage_state=cookies, **screen(1280)) as page:
        yield page


@pytest.fixture
def hostile_page(site: str, made: dict[str, str]) -> str:
    """The address of the page of the user with hostile values."""
    return site + path_of(made["hostile"])


def path_of(user_id: str) -> str:
    return f"/admin/accounts/user/{user_id}/change/"


def press(page: Page, label: str, confirm: str, *, within: Locator | None = None, **fields: str) -> None:
    """Press a button and confirm on the page that asks; the user's page follows and says that it was done."""
    back = page.url
    (within or page.locator(".head")).get_by_role("button", name=label, exact=True).click()
    for name, value in fields.items():
        field = page.get_by_label(name)
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.get_by_role("button", name=confirm).click()
    expect(page).to_have_url(back)
    expect(page.get_by_role("status")).to_be_visible()


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name)


def test_each_button_works_through_its_confirmation(operator: Page, own_gateway: Gateway, made: dict[str, str]) -> None:
    own_gateway.manage("shell", "--no-imports", "--command", LOCK_OUT)
    operator.goto(path_of(made["user"]))
    expect(operator.get_by_text("Password and code login paused")).to_be_visible()
    expect(card(operator, "Devices").get_by_text("Firefox on Linux")).to_be_visible()

    press(operator, "Lift lockouts…", "Lift lockouts")
    expect(operator.get_by_text("Password and code login paused")).to_have_count(0)
    press(operator, "Send login link…", "Send login links")
    press(operator, "End…", "End logins", within=card(operator, "Devices"))
    expect(card(operator, "Devices").get_by_text("No device is signed in.")).to_be_visible()
    press(operator, "Revoke…", "Revoke API keys", within=card(operator, "API keys"))
    expect(card(operator, "API keys").get_by_text("revoked")).to_be_visible()
    press(operator, "Reset factors…", "Reset second factors")
    expect(operator.get_by_text("No second factor")).to_be_visible()
    press(operator, "Change role…", "Change roles", Role="node_operator")
    press(operator, "Lock…", "Lock users", Reason="Lost laptop")
    expect(operator.get_by_text("Locked by looker@lucid.test")).to_be_visible()
    press(operator, "Unlock…", "Unlock users")
    expect(operator.get_by_text("Locked by looker@lucid.test")).to_have_count(0)

    timeline = card(operator, "Timeline")
    for text in ("Staff mailed a login link", "Staff unlocked an account", "An API key was revoked"):
        expect(timeline.get_by_text(text)).to_be_visible()
    assert complaints(operator) == []


def test_a_cancelled_confirmation_returns_without_a_change(operator: Page, made: dict[str, str]) -> None:
    operator.goto(path_of(made["user"]))
    operator.get_by_role("button", name="Lock…").click()
    operator.get_by_role("link", name="Cancel").click()

    expect(operator).to_have_url(path_of(made["user"]))
    expect(operator.get_by_role("button", name="Lock…")).to_be_visible()


def test_the_timeline_is_filtered_and_the_form_is_behind_edit(operator: Page, made: dict[str, str]) -> None:
    operator.goto(path_of(made["hostile"]))
    card(operator, "Timeline").get_by_role("link", name="Requests", exact=True).click()
    expect(card(operator, "Timeline").get_by_text("Nothing has happened yet")).to_be_visible()
    card(operator, "Account").get_by_role("link", name="Edit").click()
    operator.get_by_role("link", name="Cancel").click()

    expect(operator).to_have_url(path_of(made["hostile"]))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_hostile_values_break_no_layout(
    hostile_page: str, browser: Browser, cookies: StorageState, width: int, scheme: str
) -> None:
    options = screen(width) | {"color_scheme": scheme, "storage_state": cookies}
    with browser.new_page(**options) as page:
        for address in (hostile_page, f"{hostile_page}?edit=1"):
            page.goto(address)
            too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(too_wide) <= 0
            assert page.evaluate("window.ran") is None
            assert complaints(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_ctrl_k_searches_and_leads_to_the_one_match(
    browser: Browser, cookies: StorageState, site: str, made: dict[str, str], width: int
) -> None:
    with browser.new_page(base_url=site, storage_state=cookies, **screen(width)) as page:
        page.goto("/admin/accounts/apikey/")
        page.keyboard.press("Control+k")
        expect(page.get_by_label("Find a user, key, address, request, token or session")).to_be_focused()
        page.keyboard.type("mallory@lucid.test")
        page.keyboard.press("Enter")

        expect(page).to_have_url(path_of(made["user"]))
        assert complaints(page) == []


@pytest.mark.parametrize("label", ["Find a user, key, address, request, token or session", "Search API keys"])
def test_of_a_pasted_key_only_its_prefix_is_sent(operator: Page, made: dict[str, str], label: str) -> None:
    operator.goto("/admin/accounts/apikey/")
    sent: list[str] = []

    def note(request: object) -> None:
        sent.append(f"{request.url} {request.post_data or ''}")  # type: ignore[attr-defined]

    operator.on("request", note)
    operator.get_by_label(label).fill(made["text"])
    operator.keyboard.press("Enter")
    expect(operator).to_have_url(re.compile(f"{made['key']}"))

    assert any(f"lk_{made['key']}" in each for each in sent)
    assert not any(made["text"][20:] in each for each in sent)
