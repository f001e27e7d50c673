"""Idle connections, kept for the next request to the same instance."""

import time
from collections import deque
from functools import cache

# The unpatched poll: asking an idle socket must not give way to other greenlets.
from gevent.monkey import get_original

from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection.resolver import resolver
from proxy.connection.upstream import Connection

poll = get_original("select", "poll")
MAX_IDLE = 128
MAX_IDLE_SECONDS = 30.0
# Servers close idle connections after a few seconds; a request that comes in that moment is lost. What must not be sent
# again takes no connection to which that could happen.
SURE_SECONDS = 1.0


class Pool:
    """The idle connections of one instance in one process, the most recently used first."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.idle: deque[Connection] = deque()

    def take(self, timeouts: Timeouts, *, fresh: bool = False, idle_seconds: float = MAX_IDLE_SECONDS) -> Connection:
        """Return a connection, one that is kept if it was used within so many seconds; raise UpstreamUnreachable or
        ConnectTimeout.
        """
        self.drop_old()
        while self.idle and not fresh and time.monotonic() - self.idle[-1].idle_since <= idle_seconds:
            connection = self.idle.pop()
            if is_usable(connection) and resolver.still_leads_to(self.instance, connection.address):
                connection.reused = True
                return connection
            connection.close()
        return Connection(self.instance, timeouts)

    def give_back(self, connection: Connection) -> None:
        """Keep the connection if the next request may use it, else close it."""
        self.drop_old()
        if len(self.idle) >= MAX_IDLE or not connection.is_reusable():
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self.idle.append(connection)

    def drop_old(self) -> None:
        """Close what nobody has used for too long: those are the first."""
        while self.idle and time.monotonic() - self.idle[0].idle_since > MAX_IDLE_SECONDS:
            self.idle.popleft().close()


def is_usable(connection: Connection) -> bool:
    """Return whether an idle connection is still open and silent: late bytes would poison the next answer."""
    if connection.sock.fileno() < 0:
        return False
    poller = poll()
    poller.register(connection.sock.fileno(), 1)  # POLLIN; errors and hang-ups are always reported
    return not poller.poll(0)


@cache
def pool_for(instance: Instance) -> Pool:
    """Return this process's pool for the instance."""
    return Pool(instance)
