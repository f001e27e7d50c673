"""How many connections each address has open, over all workers of a gateway, in memory that they share.

Each worker has a row that it alone writes, so nothing needs a lock. An address has a column, its hash; two addresses
share one of 16,384 by chance, which no client can bring about: the hash is Python's, with a secret of the process.
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
# More than there are workers at a time, those that end after a reload included.
ROWS = 8 * environment().WEB_CONCURRENCY + 8
BYTES = 2
IPV6_PREFIX = 64
QUIET_SECONDS = 60.0
MOST_NAMED = 1000

# Made by the master, before it has workers.
counts = memoryview(mmap.mmap(-1, ROWS * COLUMNS * BYTES)).cast("H")


def free_row(taken: Collection[int]) -> int:
    """Return a row that no worker has, empty."""
    row = next((row for row in range(ROWS) if row not in taken), ROWS - 1)
    empty(row)
    return row


def empty(row: int) -> None:
    """Forget the connections of a worker, which is dead."""
    counts[row * COLUMNS : (row + 1) * COLUMNS] = memoryview(bytes(COLUMNS * BYTES)).cast("H")


class OpenConnections:
    """The connections of one worker, which has the row. `limit` is how many an address may have, 0 for any number."""

    def __init__(self, row: int, limit: int) -> None:
        self.start, self.limit = row * COLUMNS, limit
        self.named: dict[str, float] = {}

    def enter(self, peer: Any) -> int | None:
        """Count a connection of the peer and return its column, -1 if nobody counts; return None if it is one too many.

        `peer` is what accept() returns: an address and a port, or a text for a unix socket, which is not limited.
        """
        column = column_of(peer[0]) if self.limit and isinstance(peer, tuple) else -1
        if column >= 0:
            if sum(counts[column::COLUMNS]) >= self.limit:
                self.name(peer[0])
                return None
            counts[self.start + column] += 1
        return column

    def leave(self, column: int) -> None:
        """Count the end of a connection in the column that `enter` returned."""
        if column >= 0:
            counts[self.start + column] -= 1

    def name(self, address: str) -> None:
        """Name the address in the log, once a minute."""
        now = time.monotonic()
        if now - self.named.get(address, -QUIET_SECONDS) >= QUIET_SECONDS:
            if len(self.named) >= MOST_NAMED:
                self.named.clear()
            self.named[address] = now
            advice = f"MAX_CONNECTIONS_PER_ADDRESS is {self.limit}; a proxy belongs to TRUSTED_PROXIES"
            logger.warning("too many connections of an address", extra={"client": address, "advice": advice})


@lru_cache(maxsize=4096)
def column_of(address: str) -> int:
    """Return the column of an address, which for IPv6 is that of its /64; -1 for a trusted proxy."""
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
