"""Work that is done when the answer is out, so that the answer's time tells nothing of it."""

import logging
from collections.abc import Callable

import gevent
from django.db import DatabaseError, connection
from gevent.monkey import is_module_patched

logger = logging.getLogger(__name__)
DELAY_SECONDS = 0.1


def afterwards(work: Callable[[], object]) -> None:
    """Do the work a moment later in a gevent worker, and at once elsewhere. It is lost should the worker end before."""
    if is_module_patched("socket"):
        gevent.spawn_later(DELAY_SECONDS, do, work)
    else:
        work()


def do(work: Callable[[], object]) -> None:
    """Do the work; log that it failed, as nobody waits for it."""
    try:
        work()
    except DatabaseError as error:
        logger.error("work after an answer failed", extra={"error": type(error).__name__})  # noqa: TRY400
    finally:
        connection.close()
