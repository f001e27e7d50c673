"""What the workers of a gateway read last from the database, for a worker that starts while the database is down.

It lies in memory that gunicorn's master makes and its workers inherit, never on a disk, and goes with the master: a
gateway that starts anew knows nothing until its database answers. Signing keys are in it as they are in the database,
encrypted.
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
HEADER = struct.Struct("!dQ32s")  # when it was read (seconds of the machine's monotonic clock), length, SHA-256
READ_TRIES, RETRY_SECONDS = 5, 0.01


class Holder(Protocol):
    """What a process holds of the database: nothing before `read_at`, by the monotonic clock."""

    read_at: float | None

    def state(self) -> Any:
        """Return what was read last."""

    def take_over(self, state: Any) -> None:
        """Hold what another worker read."""


@cache
def shared_memory() -> int:
    """Return the descriptor of the gateway's memory, made by the first call, before any fork."""
    return os.memfd_create("lucid-handover")


class Handover:
    """One worker's part: it writes what it has read, and takes over what it could not read itself."""

    def __init__(self, memory: int, *holders: Holder) -> None:
        self.memory, self.holders = memory, holders

    def is_complete(self) -> bool:
        """Return whether each holder knows what it has to know before a request is served."""
        return all(holder.read_at is not None for holder in self.holders)

    def write(self) -> None:
        """Leave for the next worker what this one has read, unless another one has read it later."""
        times = [holder.read_at for holder in self.holders if holder.read_at is not None]
        if len(times) < len(self.holders) or min(times) <= self.header()[0]:
            return
        data = pickle.dumps([holder.state() for holder in self.holders], pickle.HIGHEST_PROTOCOL)
        # In one call, so that of two writers one comes first; a reader that comes between sees a wrong digest.
        os.pwrite(self.memory, HEADER.pack(min(times), len(data), hashlib.sha256(data).digest()) + data, 0)

    def take_over(self) -> None:
        """Take over from the other workers what could not be read from the database, if there is anything."""
        if self.is_complete() or (found := self.read()) is None:
            return
        read_at, states = found
        for holder, state in zip(self.holders, states, strict=True):
            if holder.read_at is None:
                with contextlib.suppress(ServiceUnavailable):  # none of the keys can be decrypted: as when it was read
                    holder.take_over(state)
                holder.read_at = read_at
        age = round(time.monotonic() - read_at)
        logger.warning("the database is unavailable: taking over what another worker read", extra={"seconds_ago": age})

    def header(self) -> tuple[float, int, bytes]:
        """Return when the memory was written, length and digest; zeros if it never was."""
        head = os.pread(self.memory, HEADER.size, 0)
        read_at, length, digest = HEADER.unpack(head.ljust(HEADER.size, b"\0"))
        return read_at, length, digest

    def read(self) -> tuple[float, list[Any]] | None:
        """Return when it was read and the holders' states; None if no worker has written them, or one is just at it."""
        for _ in range(READ_TRIES):
            read_at, length, digest = self.header()
            data = os.pread(self.memory, length, HEADER.size)
            if read_at and hashlib.sha256(data).digest() == digest:
                # Only this gateway's processes can write to the memory.
                return read_at, pickle.loads(data)  # noqa: S301
            time.sleep(RETRY_SECONDS)
        return None
