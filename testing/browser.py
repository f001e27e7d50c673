"""The system's Chromium, headless and driven by Playwright (https://playwright.dev/python/docs/api/class-playwright).

Each `browser.new_page(...)` is a browser of its own: it shares no cookies with another one.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, Request, StorageState, expect, sync_playwright

expect.set_options(timeout=30_000)  # milliseconds, as long as Playwright waits for everything else


@contextlib.contextmanager
def running_browser(binary: str) -> Iterator[Browser]:
    """Run the browser. Meanwhile this thread has a running event loop, in which Django refuses to use a database."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=binary) as browser:
        yield browser


def screen(width: int) -> dict[str, Any]:
    """Return the options of `new_page` for a window of that many pixels; below 600 it is a phone's."""
    return {"viewport": {"width": width, "height": 900}, "is_mobile": width < 600}


def sign_in(browser: Browser, base_url: str, email: str, password: str) -> StorageState:
    """Sign in to the operator pages; return the cookies, for `new_page(storage_state=...)`."""
    with browser.new_page(base_url=base_url) as page:
        page.goto("/admin/")
        page.get_by_label("Email").fill(email)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url("/admin/")
        return page.context.storage_state()


def complaints(page: Page) -> list[str]:
    """Return the errors, warnings and violations of the security policy in the page's console so far."""
    page.evaluate("0")  # what the page has said before its answer has arrived with it
    messages = page.console_messages(filter="all")
    errors = page.page_errors(filter="all")
    return [message.text for message in messages if message.type in ("warning", "error")] + [str(e) for e in errors]


def noted_requests(page: Page) -> list[Request]:
    """Return a list to which each request of the page is added from now on."""
    requests: list[Request] = []

    def note(request: Request) -> None:  # Playwright takes no built-in method such as `requests.append`
        requests.append(request)

    page.on("request", note)
    return requests
