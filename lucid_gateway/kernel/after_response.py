"""Work that runs after the answer was sent, so that the time of the answer does not reveal it."""

import logging
from collections.abc import Callable

import gevent
from django.db import DatabaseError, connection
from gevent.monkey import is_module_patched

logger = logging.getLogger(__name__)
DELAY_SECONDS = 0.1


def after_response(work: Callable[[], object]) -> None:
    """Run the work: in a gevent worker a tenth of a second later, and not at all if the worker ends first."""
    if is_module_patched("socket"):
        gevent.spawn_later(DELAY_SECONDS, run, work)
    else:
        work()


def run(work: Callable[[], object]) -> None:
    """Run the work, and log an error of the database, because no caller waits for it."""
    try:
        work()
    except DatabaseError as error:
        logger.error("work after an answer failed", extra={"error": type(error).__name__})  # noqa: TRY400
    finally:
        connection.close()
