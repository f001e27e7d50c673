"""The background loops of a process: what is read, renewed or sent again and again beside the requests."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import connection

logger = logging.getLogger(__name__)
SECONDS = 2.0
FIRST_SECONDS = 5.0


class Loop:
    """A piece of work that a thread repeats every few seconds for as long as it is `needed`.

    Work that raises is logged, and done again after the next pause. With `at_once` the first round needs no pause.
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
        """Start the thread unless it runs. Call it after whatever makes the work needed."""
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
                self.thread.start()

    def run(self) -> None:
        """Repeat the work until it is not needed any more."""
        pause = 0.0 if self.at_once else self.every
        while True:
            time.sleep(pause)
            pause = self.every
            with self.lock:
                # Whoever needs the work later calls `start` after this, and finds no thread.
                if not self.needed():
                    self.thread = None
                    return
            for step in (self.work, connection.close):
                try:
                    step()
                except Exception as error:  # noqa: BLE001  # whatever it is, the next round must come
                    logger.warning("%s: a round failed", self.name, extra={"error": type(error).__name__})

    def wait(self, seconds: float) -> bool:
        """Return whether the work has come to its end, after so many seconds at most."""
        thread = self.thread
        if thread is not None:
            thread.join(seconds)
        return self.thread is None


def follow(*loads: Callable[[], object], seconds: float = SECONDS) -> None:
    """Call each of the functions every few seconds for as long as the process lives (once in a worker, after the fork).

    One that fails leaves what it read before in place, and is called again. Returns when all were called once, or after
    five seconds: until then a new worker takes no connection, which others can serve.
    """
    called = threading.Event()

    def call_all() -> None:
        for load in loads:
            try:
                load()
            except Exception as error:  # noqa: BLE001  # one that fails must not keep the others from being called
                logger.warning("not followed: %s", load.__qualname__, extra={"error": type(error).__name__})
        called.set()

    Loop("following", call_all, every=seconds, at_once=True).start()
    called.wait(FIRST_SECONDS)
