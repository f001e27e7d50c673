"""Background loops: threads that repeat a piece of work beside the requests."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import connection

logger = logging.getLogger(__name__)
SECONDS = 2.0
FIRST_SECONDS = 5.0  # the longest wait for the first round


class Loop:
    """Repeats `work` in a thread every `every` seconds for as long as `needed` returns True.

    An exception is logged, and the next round follows. With `at_once` the first round starts without a pause.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], object],
        *,
        every: float,
        needed: Callable[[], bool] = lambda: True,
        at_once: bool = False,
    ) -> None:
        self.name, self.work, self.every, self.needed, self.at_once = name, work, every, needed, at_once
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs. Call this after the change that makes the work needed."""
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
                self.thread.start()

    def run(self) -> None:
        pause = 0.0 if self.at_once else self.every
        while True:
            time.sleep(pause)
            pause = self.every
            with self.lock:
                # Under the lock, so that a later `start` finds no thread and makes a new one.
                if not self.needed():
                    self.thread = None
                    return
            for step in (self.work, connection.close):
                try:
                    step()
                except Exception as error:  # noqa: BLE001  # no error may end the loop
                    logger.warning("%s: a round failed", self.name, extra={"error": type(error).__name__})

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the thread to end, and return whether it has ended."""
        thread = self.thread
        if thread is not None:
            thread.join(seconds)
        return self.thread is None


def poll(*reads: Callable[[], object], seconds: float = SECONDS) -> None:
    """Call each function every `seconds` for as long as the process lives. A worker calls this once, after the fork.

    A function that fails is logged and called again in the next round. Returns after the first round, or after five
    seconds: until then a new worker accepts no connections, so that other workers serve them.
    """
    called = threading.Event()

    def call_all() -> None:
        for read in reads:
            try:
                read()
            except Exception as error:  # noqa: BLE001  # no failure may prevent the other calls
                logger.warning("polling failed: %s", read.__qualname__, extra={"error": type(error).__name__})
        called.set()

    Loop("polling", call_all, every=seconds, at_once=True).start()
    called.wait(FIRST_SECONDS)
