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
MAKE = f"""
from accounts.models import User
from django.contrib.auth.hashers import make_password
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk
from sessions_api.policies import create_policy
staff = User.objects.create(
    email="reader@lucid.test", username="reader", role="super_admin", password=make_password({PASSWORD!r}))
session = create_session(staff.pk, name="n" * 255, description="d" * 1000, metadata={{"k": "v" * 3000}})
Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
manifest = make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
policy = create_policy(staff.pk, name="n" * 255, description="d" * 1000, rules={[LONG, MARKUP]!r})
print(session.pk, manifest.pk, policy.pk)
"""
OVERLAPPED = """() => {
  const text = document.createRange();
  text.selectNodeContents(document.querySelector(".head h1"));
  const button = document.querySelector(".head .right").getBoundingClientRect();
  return [...text.getClientRects()].some(line =>
    line.right > button.left && line.left < button.right && line.bottom > button.top && line.top < button.bottom);
}"""


@pytest.fixture(scope="module")
def pages(gateway: Gateway) -> list[str]:
    """The pages of a session, its history, its manifest and a trust policy, all with texts of the maximum length."""
    session, manifest, policy = gateway.manage("shell", "--no-imports", "--command", MAKE).split()
    pages = [f"session/{session}/change", f"session/{session}/history", f"manifest/{manifest}/change"]
    return [f"/admin/sessions_api/{page}/" for page in (*pages, f"trustpolicy/{policy}/change")]


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
    with browser.new_page(base_url=base_url, storage_state=cookies, **screen(width)) as page:
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
