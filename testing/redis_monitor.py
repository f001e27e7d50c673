"""What a piece of a test asks of Redis, whatever others ask of the same server meanwhile."""

import contextlib
import uuid
from collections.abc import Iterator

from django.conf import settings
from redis import Redis


@contextlib.contextmanager
def watched_redis(*, scripts: bool = False) -> Iterator[list[str]]:
    """Yield a list that holds, after the block, the commands that this process sent to Redis in it, in order; with
    `scripts` also those that scripts ran on the server.

    What the gateways beside the tests send is left out: they have databases of their own.
    """
    commands: list[str] = []
    end = f"ECHO {uuid.uuid4()}"
    url = settings.ENV.REDIS_URL
    # The client that says when it is over has connected before the watch begins.
    with (
        Redis.from_url(url, single_connection_client=True) as ender,
        Redis.from_url(url) as watcher,
        watcher.monitor() as monitor,
    ):
        database = watcher.get_connection_kwargs().get("db", 0)
        yield commands
        ender.execute_command(*end.split())
        while (seen := monitor.next_command())["command"] != end:
            if seen["db"] == database and (scripts or seen["client_type"] != "lua"):
                commands.append(seen["command"])
