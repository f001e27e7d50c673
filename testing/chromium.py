"""A real headless Chromium, spoken to through its DevTools pipe: no port, no driver, no other package.

The protocol is https://chromedevtools.github.io/devtools-protocol/; messages are JSON, each ended by a NUL.
"""

import contextlib
import fcntl
import itertools
import json
import os
import selectors
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testing.servers import child, folder

WAIT_SECONDS = 15.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip


class Chromium:
    """A running browser."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._ids = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, /, **params: Any) -> dict[str, Any]:
        """Return what a method answers; raise RuntimeError for its error. Events that come meanwhile are kept."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            while b"\0" not in self._unread:
                if not selector.select(WAIT_SECONDS):
                    raise TimeoutError("Chromium does not answer")
                if not (part := os.read(self._read, 65_536)):
                    raise RuntimeError("Chromium is gone")
                self._unread += part
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    @contextlib.contextmanager
    def tab(self, address: str) -> Iterator["Tab"]:
        """Yield a new tab that goes to the address."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        tab = Tab(self, session)
        tab.go(address)
        yield tab
        self.call("Target.closeTarget", targetId=target)


class Tab:
    """A tab of the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser, self.session = browser, session

    def go(self, address: str) -> None:
        """Go to the address, as if it were opened from a mail."""
        self.browser.call("Page.navigate", self.session, url=address)

    def value(self, expression: str) -> Any:
        """Return what the page's JavaScript makes of the expression."""
        answer = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait_until(self, expression: str) -> Any:
        """Return the expression's value once it is true; raise AssertionError if it stays false."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):  # the page is only being loaded
                if found := self.value(expression):
                    return found
            time.sleep(0.02)
        raise AssertionError(f"{expression} stays false: {self.value('document.body.innerText')}")

    def sees(self, selector: str) -> bool:
        """Return whether an element is to be seen."""
        return bool(self.value(f"document.querySelector({json.dumps(selector)})?.checkVisibility()"))

    def wait_for(self, selector: str) -> str:
        """Return the text of an element once it is to be seen."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.wait_until(f"{element}?.checkVisibility()")
        return str(self.value(f"{element}.innerText"))

    def press(self, selector: str) -> None:
        """Press a button with the mouse."""
        self.wait_for(selector)
        button = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{button}.scrollIntoView({{block: 'center'}})")
        middle = f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({button}.getBoundingClientRect())"
        x, y = self.value(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.browser.call(
                "Input.dispatchMouseEvent", self.session, type=kind, x=x, y=y, button="left", clickCount=1
            )

    def type(self, selector: str, text: str) -> None:
        """Type a text into a field, in place of what is there."""
        self.wait_for(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        self.browser.call("Input.insertText", self.session, text=text)

    def requests(self) -> list[str]:
        """Return `METHOD address` of all requests so far."""
        self.value("1")
        sent = [event["params"]["request"] for event in self._events("Network.requestWillBeSent")]
        return [f"{request['method']} {request['url']}" for request in sent]

    def complaints(self) -> list[str]:
        """Return what stands in the console: errors, warnings, violations of the security policy."""
        self.value("1")
        entries = [event["params"]["entry"] for event in self._events("Log.entryAdded")]
        thrown = [event["params"]["exceptionDetails"]["text"] for event in self._events("Runtime.exceptionThrown")]
        return [entry["text"] for entry in entries if entry["level"] in ("warning", "error")] + thrown

    def _events(self, method: str) -> list[dict[str, Any]]:
        return [
            event
            for event in self.browser.events
            if event.get("method") == method and event["sessionId"] == self.session
        ]


def above_the_pipe(descriptor: int) -> int:
    """Return the descriptor under a number that is none of Chromium's 3 and 4."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


@contextlib.contextmanager
def running_chromium(binary: str) -> Iterator[Chromium]:
    """Run the browser with an empty profile."""
    theirs_in, ours_out, ours_in, theirs_out = (above_the_pipe(end) for end in (*os.pipe(), *os.pipe()))
    with folder() as path:
        # The shell hands the pipe on under the numbers that Chromium looks at.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["/bin/bash", "-c", shell, "chromium", binary, *FLAGS, f"--user-data-dir={path / 'profile'}"]
        with child(command, Path(path) / "log", pass_fds=(theirs_in, theirs_out)):
            os.close(theirs_in)
            os.close(theirs_out)
            try:
                yield Chromium(ours_out, ours_in)
            finally:
                os.close(ours_out)
                os.close(ours_in)
