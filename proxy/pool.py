"""Idle connections, kept for the next request to the same instance."""

import time
from collections import deque
from functools import cache

# The unpatched poll: asking an idle socket must not give way to other greenlets.
from gevent.monkey import get_original

from proxy.clusters import Instance
from proxy.resolver import resolver
from proxy.routes import Timeouts
from proxy.upstream import Connection

poll = get_original("select", "poll")
MAX_IDLE = 128
MAX_IDLE_SECONDS = 30.0


class Pool:
    """The idle connections of one instance in one process, the most recently used first."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.idle: deque[Connection] = deque()

    def take(self, timeouts: Timeouts, *, fresh: bool = False) -> Connection:
        """Return a connection; raise UpstreamUnreachable or UpstreamTimeout."""
        while self.idle and not fresh:
            connection = self.idle.pop()
            if is_usable(connection) and resolver.still_leads_to(self.instance, connection.address):
                connection.reused = True
                return connection
            connection.close()
        return Connection(self.instance, timeouts)

    def give_back(self, connection: Connection) -> None:
        """Keep the connection if the next request may use it, else close it."""
        if len(self.idle) >= MAX_IDLE or not connection.is_reusable():
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self.idle.append(connection)


def is_usable(connection: Connection) -> bool:
    """Return whether an idle connection is still open and silent: late bytes would poison the next answer."""
    if time.monotonic() - connection.idle_since > MAX_IDLE_SECONDS:
        return False
    poller = poll()
    poller.register(connection.sock.fileno(), 1)  # POLLIN; errors and hang-ups are always reported
    return not poller.poll(0)


@cache
def pool_for(instance: Instance) -> Pool:
    """Return this process's pool for the instance."""
    return Pool(instance)
