"""The latest database reads of a gateway's workers, for a worker that starts while the database is down.

They are in memory that gunicorn's master creates and its workers inherit, never on a disk, and end with the master: a
restarted gateway knows nothing until its database answers. Signing keys stay encrypted, as in the database.
"""

import contextlib
import hashlib
import logging
import os
import pickle
import struct
import time
from functools import cache
from typing import Any, Protocol

from lucid_gateway.policy.errors import ServiceUnavailable

logger = logging.getLogger(__name__)
HEADER = struct.Struct("!dQ32s")  # time of the read (seconds of the machine's monotonic clock), length, SHA-256
READ_TRIES, RETRY_SECONDS = 5, 0.01


class DatabaseCache(Protocol):
    """Rows of the database that a process keeps; `read_at` is the monotonic time of the read, None before the first."""

    read_at: float | None

    def state(self) -> Any:
        """Return the rows that were read last."""

    def take_over(self, state: Any) -> None:
        """Keep the rows that another worker read."""


@cache
def shared_memory() -> int:
    """Return the descriptor of the shared memory, created by the first call, before any fork."""
    return os.memfd_create("lucid-handover")


class Handover:
    """One worker's access to the shared memory: it writes its caches, and fills those that it could not read itself."""

    def __init__(self, memory: int, *caches: DatabaseCache) -> None:
        self.memory, self.caches = memory, caches

    def is_complete(self) -> bool:
        """Return whether all caches were read, which must happen before the worker serves a request."""
        return all(item.read_at is not None for item in self.caches)

    def write(self) -> None:
        """Write the caches for later workers, unless another worker has written a newer state."""
        times = [item.read_at for item in self.caches if item.read_at is not None]
        if len(times) < len(self.caches) or min(times) <= self.header()[0]:
            return
        data = pickle.dumps([item.state() for item in self.caches], pickle.HIGHEST_PROTOCOL)
        # One call, so that two writers do not mix their bytes; a concurrent reader sees a wrong digest.
        os.pwrite(self.memory, HEADER.pack(min(times), len(data), hashlib.sha256(data).digest()) + data, 0)

    def take_over(self) -> None:
        """Fill the caches that could not be read from the database with another worker's state, if there is one."""
        if self.is_complete() or (found := self.read()) is None:
            return
        read_at, states = found
        for item, state in zip(self.caches, states, strict=True):
            if item.read_at is None:
                with contextlib.suppress(ServiceUnavailable):  # no key can be decrypted: the same as after a read
                    item.take_over(state)
                item.read_at = read_at
        age = round(time.monotonic() - read_at)
        logger.warning("the database is unavailable: taking over what another worker read", extra={"seconds_ago": age})

    def header(self) -> tuple[float, int, bytes]:
        """Return the time of the read, the length and the digest; zeros if no worker has written yet."""
        head = os.pread(self.memory, HEADER.size, 0)
        read_at, length, digest = HEADER.unpack(head.ljust(HEADER.size, b"\0"))
        return read_at, length, digest

    def read(self) -> tuple[float, list[Any]] | None:
        """Return the time of the read and the caches' states; None if no worker has written, or one is writing now."""
        for _ in range(READ_TRIES):
            read_at, length, digest = self.header()
            data = os.pread(self.memory, length, HEADER.size)
            if read_at and hashlib.sha256(data).digest() == digest:
                # Only this gateway's processes can write to the memory.
                return read_at, pickle.loads(data)  # noqa: S301
            time.sleep(RETRY_SECONDS)
        return None
