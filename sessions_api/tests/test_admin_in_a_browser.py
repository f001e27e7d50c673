"""The operator pages of what users record can be read in a browser of any width, whatever users write."""

import shutil
from collections.abc import Iterator

import pytest

from testing.chromium import Tab, running_chromium
from testing.gateway import Gateway

PASSWORD = "Correct-Horse-7"
MAKE = f"""
from accounts.models import User
from django.contrib.auth.hashers import make_password
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk
staff = User.objects.create(
    email="reader@lucid.test", username="reader", role="super_admin", password=make_password({PASSWORD!r}))
session = create_session(staff.pk, name="n" * 255, description="d" * 1000, metadata={{"k": "v" * 3000}})
Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
manifest = make_manifest(change_session(session, version=None, changes={{"status": "completed"}}))
print(session.pk, manifest.pk)
"""
OVERLAPPED = """(() => {
  const text = document.createRange();
  text.selectNodeContents(document.querySelector("#content h2"));
  const button = document.querySelector(".object-tools").getBoundingClientRect();
  return [...text.getClientRects()].some(line =>
    line.right > button.left && line.left < button.right && line.bottom > button.top && line.top < button.bottom);
})()"""


@pytest.fixture(scope="module")
def tab(gateway: Gateway) -> Iterator[tuple[Tab, list[str]]]:
    """A browser that staff has signed in with, and the pages of a session whose texts are as long as can be, of its
    history, and of its manifest.
    """
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    session, manifest = gateway.manage("shell", "--no-imports", "--command", MAKE).split()
    site = f"http://127.0.0.1:{gateway.port}/admin"
    pages = [f"session/{session}/change/", f"session/{session}/history/", f"manifest/{manifest}/change/"]
    with running_chromium(binary) as chromium, chromium.tab(f"{site}/login/?next=/admin/") as tab:
        tab.type("#id_username", "reader@lucid.test")
        tab.type("#id_password", PASSWORD)
        tab.press("[type=submit]")
        tab.wait_until("location.pathname == '/admin/'")
        yield tab, [f"{site}/sessions_api/{page}" for page in pages]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_the_window_and_no_title_lies_under_a_button(
    tab: tuple[Tab, list[str]], width: int
) -> None:
    browser, pages = tab
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.browser.call("Emulation.setDeviceMetricsOverride", browser.session, **size)

    for page in pages:
        browser.go(page)
        browser.wait_until(f"location.href == {page!r} && document.readyState == 'complete'")
        assert browser.value("document.documentElement.scrollWidth") <= width, page
        if page.endswith("change/"):
            assert browser.value(OVERLAPPED) is False, page
        assert browser.complaints() == []
