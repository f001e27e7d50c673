"""What a worker reads again in the background, so that the hot path need not ask for it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from django.db import connection

logger = logging.getLogger(__name__)
SECONDS = 2.0
FIRST_SECONDS = 5.0


def follow(*loads: Callable[[], object], seconds: float = SECONDS) -> None:
    """Call each of the functions every few seconds for as long as the process lives (once in a worker, after the fork).

    One that fails leaves what it read before in place, and is called again. Returns when all were called once, or after
    five seconds: until then a new worker takes no connection, which others can serve.
    """
    called = threading.Event()
    threading.Thread(target=follow_forever, args=(seconds, *loads, called.set), name="following", daemon=True).start()
    called.wait(FIRST_SECONDS)


def follow_forever(seconds: float, *loads: Callable[[], object]) -> NoReturn:
    """Read, sleep, and read again."""
    while True:
        for load in (*loads, connection.close):
            try:
                load()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next change must be noticed
                logger.warning("not followed: %s", load.__qualname__, extra={"error": type(error).__name__})
        time.sleep(seconds)
