"""Which finished requests the request explorer keeps: refused and failed ones, and a share of the others.

This runs on the hot path, so it only decides and buffers; `lucid_gateway.explorer` writes the rows. The caps hold over
all workers of a gateway, which count in memory that they share. Each writes only its own row, so there are no locks;
workers that decide in the same microsecond may exceed a cap by one request each.
"""

import mmap
import random
import time
from collections import deque
from typing import NamedTuple

from lucid_gateway.kernel.env import environment
from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.server.samples import count

A_SECOND, OF_ONE_CALLER = 200, 20
MAX_BUFFERED = 2_000
# The group of samples that counts, by reason, the requests that should have been kept but were left out.
LEFT_OUT = "explorer_left_out"
GATEWAY_CAP, CALLER_CAP, BUFFER_FULL = "gateway_cap", "caller_cap", "buffer_full"

# Column 0 counts all requests, each other one those of the callers whose hash selects it.
COLUMNS = 1 + (1 << 12)
# More than the workers that live at the same time, including those that end after a reload.
ROWS = 8 * environment().WEB_CONCURRENCY + 8
# A cell holds a second of the clock (24 bits) and the requests kept in it (8 bits). The master creates this before it
# forks workers.
cells = memoryview(mmap.mmap(-1, ROWS * COLUMNS * 4)).cast("I")


class FinishedRequest(NamedTuple):
    """A request to keep: `ended_at` is in epoch seconds, `size` is the answer's body in bytes, `cut` the reason why the
    answer did not arrive whole.
    """

    record: RequestRecord
    status: int
    size: int
    seconds: float
    ended_at: float
    cut: str | None


class KeptRequests:
    """The buffer of one worker, whose row of the shared memory is `row`."""

    def __init__(self, row: int, *, enabled: bool, sample_percent: float) -> None:
        self.row, self.enabled, self.share = row, enabled, sample_percent / 100
        self.buffer: deque[FinishedRequest] = deque()
        self.second = 0
        # The columns whose cap is reached in this second: a flood costs no further look at them.
        self.full: dict[int, str] = {}

    def consider(self, record: RequestRecord, status: int, size: int = 0, cut: str | None = None) -> None:
        """Keep the finished request if it was refused, has failed or is in the sample, and no cap is reached."""
        if record.reason is None and status < 400 and cut is None and random.random() >= self.share:  # noqa: S311
            return
        if self.enabled:
            seconds = time.perf_counter() - record.started
            self.offer(FinishedRequest(record, status, size, seconds, time.time(), cut))

    def offer(self, finished: FinishedRequest) -> None:
        """Keep the request if no cap is reached."""
        reason = self.reason_to_leave_out(finished.record, int(time.time()) & 0xFFFFFF)
        if reason is None:
            self.buffer.append(finished)
        else:
            count(LEFT_OUT, reason)

    def reason_to_leave_out(self, record: RequestRecord, second: int) -> str | None:
        """Return the reason, or None after counting the request in its second."""
        if len(self.buffer) >= MAX_BUFFERED:
            return BUFFER_FULL
        if second != self.second:
            self.second, self.full = second, {}
        columns = columns_of(record)
        for column in columns:
            if column not in self.full:
                cap = OF_ONE_CALLER if column else A_SECOND
                if kept_in(column, second) < cap:
                    continue
                self.full[column] = CALLER_CAP if column else GATEWAY_CAP
            return self.full[column]
        for column in columns:
            self.note(column, second)
        return None

    def note(self, column: int, second: int) -> None:
        """Add one to this worker's cell, which begins again with each second."""
        cell = self.row * COLUMNS + column
        same = cells[cell] >> 8 == second
        cells[cell] = cells[cell] + 1 if same else (second << 8) + 1

    def drain(self, most: int = MAX_BUFFERED) -> list[FinishedRequest]:
        """Take up to `most` requests out of the buffer, the oldest first."""
        return [self.buffer.popleft() for _ in range(min(most, len(self.buffer)))]


def kept_in(column: int, second: int) -> int:
    """Return how many requests all workers have kept in this second."""
    return sum(cell & 0xFF for cell in cells[column::COLUMNS] if cell >> 8 == second)


def columns_of(record: RequestRecord) -> tuple[int, ...]:
    """Return the column of all requests and those of the address and the user, which others may share by chance."""
    names = (record.client_address, record.claim.user_id if record.claim else "")
    return (0, *{1 + hash(name) % (COLUMNS - 1) for name in names if name})


kept_requests = KeptRequests(
    0, enabled=environment().EXPLORER_KEEP_HOURS > 0, sample_percent=environment().EXPLORER_SAMPLE_PERCENT
)
