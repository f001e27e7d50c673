"""Pools of idle connections, one for each instance."""

import time
from collections import deque
from functools import cache

# The unpatched poll: checking an idle socket must not switch to another greenlet.
from gevent.monkey import get_original

from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection.resolver import resolver
from proxy.connection.upstream import Connection

poll = get_original("select", "poll")
MAX_IDLE = 128
MAX_IDLE_SECONDS = 30.0
# A server closes idle connections after a few seconds, and a request that arrives just then is lost. A request that
# must not be sent twice therefore takes only a connection that was used this recently.
SAFE_IDLE_SECONDS = 1.0


class Pool:
    """The idle connections of one process to one instance; the most recently used is taken first."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.idle: deque[Connection] = deque()

    def take(self, timeouts: Timeouts, *, fresh: bool = False, idle_seconds: float = MAX_IDLE_SECONDS) -> Connection:
        """Return an idle connection used in the last `idle_seconds`, or a new one (always, if `fresh`).

        Raises UpstreamUnreachable or ConnectTimeout.
        """
        self.close_expired()
        while self.idle and not fresh and time.monotonic() - self.idle[-1].idle_since <= idle_seconds:
            connection = self.idle.pop()
            if is_usable(connection) and resolver.still_resolves_to(self.instance, connection.address):
                connection.reused = True
                return connection
            connection.close()
        return Connection(self.instance, timeouts)

    def give_back(self, connection: Connection) -> None:
        """Keep the connection if it is reusable and the pool has room, else close it."""
        self.close_expired()
        if len(self.idle) >= MAX_IDLE or not connection.is_reusable():
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self.idle.append(connection)

    def close_expired(self) -> None:
        """Close connections that have been idle too long; the deque starts with the oldest."""
        while self.idle and time.monotonic() - self.idle[0].idle_since > MAX_IDLE_SECONDS:
            self.idle.popleft().close()


def is_usable(connection: Connection) -> bool:
    """Return whether an idle connection is open and has nothing to read: late bytes would corrupt the next answer."""
    if connection.sock.fileno() < 0:
        return False
    poller = poll()
    poller.register(connection.sock.fileno(), 1)  # POLLIN; errors and hang-ups are always reported
    return not poller.poll(0)


@cache
def pool_for(instance: Instance) -> Pool:
    """Return this process's pool for the instance."""
    return Pool(instance)
