"""Checks at startup that the servers are what the settings say, before a worker exists."""

import os
import sys
from collections.abc import Iterator

from lucid_gateway.kernel.env import environment

REFUSED = 86  # exit status of the child process


def refuse_wrong_servers() -> None:
    """End the process with a one-line message if a setting leads to something else; ignore servers that are down.

    gunicorn's master calls this. The checks run in a child process, because gevent must patch the workers before they
    import the clients of Redis and MongoDB.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            line = next(problems(), "")
            sys.stderr.write(line)
            sys.stderr.flush()
            status = REFUSED if line else 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == REFUSED:
        raise SystemExit(1)


def problems() -> Iterator[str]:
    """Yield a line for each setting that leads to something else than it says."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lucid_gateway.settings")
    from lucid_gateway.kernel.redis.at_start import problem as of_redis  # noqa: PLC0415  # in the child only

    yield from lines("REDIS_URL", of_redis())
    if environment().MONGODB_URI:
        from lucid_gateway.mongodb.at_start import problem as of_mongodb  # noqa: PLC0415
        from lucid_gateway.settings import mongodb  # noqa: PLC0415

        yield from lines("MONGODB_URI", of_mongodb(mongodb()["HOST"], mongodb()["OPTIONS"]))


def lines(setting: str, problem: str) -> list[str]:
    return [f"LUCID_ERR_5004 configuration error: {setting}: {problem}\n"] if problem else []
