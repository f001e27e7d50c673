"""The operator pages of recordings can be read in a browser of any width, whatever users write."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from sessions_api.tests.trust import WHOLE_RULE
from testing.browser import complaints, screen, sign_in
from testing.gateway import Gateway

PASSWORD = "Correct-Horse-7"
LONG: dict[str, Any] = WHOLE_RULE | {
    "rule_id": "r" * 64, "condition": "&&".join(["user_with_a_rather_long_name.age>=18"] * 26),
}  # fmt: skip
MARKUP: dict[str, Any] = WHOLE_RULE | {
    "rule_id": "strangers", "type": "deny", "condition": '<b>"x"</b> < 1', "action": "*", "enabled": False,
}  # fmt: skip
HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
MAKE = f"""
from accounts.models import User
from django.contrib.auth.hashers import make_password
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk
from accounts.users.staff import edit_account
from lucid_gateway.audit.models import AuditEvent
from sessions_api.policies import create_policy
staff = User.objects.create(
    email="reader@lucid.test", username="reader", role="super_admin", password=make_password({PASSWORD!r}))
session = create_session(staff.pk, name="n" * 255, description="d" * 1000, metadata={{"k": "v" * 3000}})
Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
manifest = make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
policy = create_policy(staff.pk, name="n" * 255, description="d" * 1000, rules={[LONG, MARKUP]!r})
open_session = create_session(staff.pk, name={HOSTILE!r}, description={HOSTILE!r})
Chunk.objects.create(session=open_session, index=2, size=2**20, hash="0" * 64, state="recorded")
staff.first_name = {HOSTILE!r} + "n" * 90
edit_account(staff, by=staff, before={{"first_name": ""}}, reason="r" * 200)
AuditEvent(type="token.reused", outcome="failure", actor=str(staff.pk), subject="s" * 64, request_id="q" * 128,
           address="2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff", user_agent="U" * 200,
           details={{"text": {HOSTILE!r} * 5, "deep": {{"k": ["v" * 300]}}}}).save()
updated, reused = (AuditEvent.objects.filter(type=kind).first() for kind in ("user.updated", "token.reused"))
print(session.pk, manifest.pk, policy.pk, open_session.pk, updated.pk, reused.pk)
"""
OVERLAPPED = """() => {
  const text = document.createRange();
  text.selectNodeContents(document.querySelector(".head h1"));
  const button = document.querySelector(".head .right").getBoundingClientRect();
  // A long title is cut: what is hidden of it cannot be covered.
  const shown = (document.querySelector(".head h1 .cut") ?? document.querySelector(".head h1")).getBoundingClientRect();
  return [...text.getClientRects()].some(line =>
    line.top < shown.bottom && Math.min(line.right, shown.right) > button.left && line.left < button.right
    && line.bottom > button.top && line.top < button.bottom);
}"""


@pytest.fixture(scope="module")
def pages(gateway: Gateway) -> list[str]:
    """The pages of sessions, a manifest, audit events and a trust policy, all with hostile or very long texts."""
    keys = gateway.manage("shell", "--no-imports", "--command", MAKE).split()
    session, manifest, policy, open_session, updated, reused = keys
    pages = [
        *(f"sessions_api/{name}" for name in ("session", "manifest", "trustpolicy")), "audit/auditevent",
        f"sessions_api/session/{session}/change", f"sessions_api/session/{session}/history",
        f"sessions_api/session/{open_session}/change", f"audit/auditevent/{updated}/change",
        f"audit/auditevent/{reused}/change", f"sessions_api/manifest/{manifest}/change",
        f"sessions_api/trustpolicy/{policy}/change",
    ]  # fmt: skip
    return [f"/admin/{page}/" for page in pages]


@pytest.fixture(scope="module")
def cookies(browser: Browser, gateway: Gateway, pages: list[str]) -> StorageState:
    """The cookies of staff who have signed in."""
    return sign_in(browser, f"http://127.0.0.1:{gateway.port}", "reader@lucid.test", PASSWORD)


@pytest.fixture(params=[1280, 390])
def width(request: pytest.FixtureRequest) -> int:
    """The width of the window in pixels."""
    pixels: int = request.param
    return pixels


@pytest.fixture
def reader(browser: Browser, gateway: Gateway, cookies: StorageState, width: int) -> Iterator[Page]:
    """A page of staff who have signed in."""
    base_url = f"http://127.0.0.1:{gateway.port}"
    scheme: Any = "dark" if width < 600 else "light"
    options = {"base_url": base_url, "storage_state": cookies, "color_scheme": scheme, **screen(width)}
    with browser.new_page(**options) as page:
        yield page


def test_every_page_fits_the_window_and_no_button_covers_the_title(reader: Page, width: int, pages: list[str]) -> None:
    for path in pages:
        reader.goto(path)
        assert reader.evaluate("document.documentElement.scrollWidth") <= width, path
        if path.endswith("change/"):
            assert reader.evaluate(OVERLAPPED) is False, path
        assert complaints(reader) == []


def test_the_rules_of_a_trust_policy_can_be_read(reader: Page, width: int, pages: list[str]) -> None:
    reader.goto(pages[-1])
    conditions = reader.locator("ol.rules .condition")
    for place, text in enumerate((MARKUP["condition"], "user_with_a_rather_long_name")):
        expect(conditions.nth(place)).to_be_visible()
        expect(conditions.nth(place)).to_contain_text(text)

    edges = "codes => codes.map(code => code.getBoundingClientRect().right)"
    assert max(reader.locator("ol.rules code").evaluate_all(edges)) <= width
    assert complaints(reader) == []


def test_a_policy_is_evaluated_on_its_page(reader: Page, pages: list[str]) -> None:
    reader.goto(pages[-1])
    reader.get_by_label("Attributes").fill(f"user.name = {HOSTILE}")
    reader.get_by_role("button", name="Evaluate").click()

    expect(reader.locator("#decision")).to_contain_text("No rule allows the action.")
    expect(reader.locator("ol.rules li").first).to_contain_text("disabled")
    expect(reader.get_by_label("Attributes")).to_have_value(f"user.name = {HOSTILE}")
    assert complaints(reader) == []


def test_a_manifest_is_verified_and_a_chunk_proved_on_its_page(reader: Page, pages: list[str]) -> None:
    reader.goto(pages[-2])
    reader.get_by_role("button", name="Verify").click()
    reader.get_by_role("button", name="Verify the manifest").click()
    expect(reader.get_by_text("Every chunk matches the manifest.")).to_be_visible()

    reader.get_by_label("Index").fill("0")
    reader.get_by_role("button", name="Prove").click()
    expect(reader.get_by_text("The proof leads from chunk 0")).to_be_visible()
    assert complaints(reader) == []


def test_old_and_new_values_are_shown_side_by_side(reader: Page, pages: list[str]) -> None:
    reader.goto(pages[7])

    expect(reader.locator("table.changes tbody tr")).to_contain_text(["First name"])
    expect(reader.locator("table.changes td").nth(2)).to_contain_text(HOSTILE)
    assert complaints(reader) == []
