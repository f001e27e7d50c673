"""The number of open connections of each address, over all workers of a gateway, in memory that they share.

Each worker writes only its own row, so there are no locks. The hash of an address selects one of 16,384 columns. Two
addresses may share a column by chance, but no client can cause that: Python's hash depends on a secret.
"""

import ipaddress
import logging
import mmap
import time
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from lucid_gateway.kernel.env import environment

logger = logging.getLogger(__name__)
COLUMNS = 1 << 14
# More than the workers that live at the same time, including those that end after a reload.
ROWS = 8 * environment().WEB_CONCURRENCY + 8
BYTES = 2
IPV6_PREFIX = 64
LOG_EVERY_SECONDS = 60.0
MAX_LOGGED = 1000
TOO_MANY_CONNECTIONS = "too_many_connections"  # the reason in the metrics

# The master creates this before it forks workers.
counts = memoryview(mmap.mmap(-1, ROWS * COLUMNS * BYTES)).cast("H")


def free_row(taken: Collection[int]) -> int:
    """Return the number of a row that no worker has, after emptying it."""
    row = next((row for row in range(ROWS) if row not in taken), ROWS - 1)
    empty(row)
    return row


def empty(row: int) -> None:
    """Remove the connections of a dead worker."""
    counts[row * COLUMNS : (row + 1) * COLUMNS] = memoryview(bytes(COLUMNS * BYTES)).cast("H")


class OpenConnections:
    """The connections of the worker with this row. `limit` is the maximum for each address; 0 means no limit."""

    def __init__(self, row: int, limit: int) -> None:
        self.start, self.limit = row * COLUMNS, limit
        self.log = CrowdLog(limit)

    def enter(self, peer: Any) -> int | None:
        """Count a connection and return its column, or -1 if the peer has no limit; return None if it is one too many.

        `peer` is what accept() returns: an address and a port, or a text for a Unix socket, which has no limit.
        """
        column = column_of(peer[0]) if self.limit and isinstance(peer, tuple) else -1
        if column >= 0:
            if sum(counts[column::COLUMNS]) >= self.limit:
                self.log.write(peer[0])
                return None
            counts[self.start + column] += 1
        return column

    def leave(self, column: int) -> None:
        """Count the end of a connection in the column that `enter` returned."""
        if column >= 0:
            counts[self.start + column] -= 1


class CrowdLog:
    """Names addresses with too many connections in the log, each at most once a minute."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.logged: dict[str, float] = {}

    def write(self, address: str) -> None:
        now = time.monotonic()
        if now - self.logged.get(address, -LOG_EVERY_SECONDS) >= LOG_EVERY_SECONDS:
            if len(self.logged) >= MAX_LOGGED:
                self.logged.clear()
            self.logged[address] = now
            advice = f"MAX_CONNECTIONS_PER_ADDRESS is {self.limit}; list a proxy in TRUSTED_PROXIES"
            logger.warning("too many connections of an address", extra={"client": address, "advice": advice})


@lru_cache(maxsize=4096)
def column_of(address: str) -> int:
    """Return the column of an IPv4 address or of an IPv6 address's /64 network; -1 for a trusted proxy."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return column_of(str(parsed.ipv4_mapped))
        subject = str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    else:
        subject = address
    if any(parsed in network for network in environment().trusted_networks):
        return -1
    return hash(subject) % COLUMNS
