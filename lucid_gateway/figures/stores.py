"""Where the samples of a gateway's workers are put together: in a shared folder or, without one, in each worker."""

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import orjson

from lucid_gateway.figures.ledger import Ledger, load
from lucid_gateway.kernel.metrics_files.directory import try_lock
from lucid_gateway.server.samples import SECONDS, Sample

logger = logging.getLogger(__name__)
FORGOTTEN_SECONDS = 600  # a worker or gateway that has been silent for so long is no longer shown
LATE_SECONDS = 3  # after the end of ten seconds, all workers have delivered


def is_due(last: float, now: float) -> bool:
    """Return whether ten seconds have ended since the last round, and the workers had time to deliver them."""
    return (last - LATE_SECONDS) // SECONDS != (now - LATE_SECONDS) // SECONDS


class Store(Protocol):
    def deliver(self, taken: list[Sample], now: float) -> None:
        """Store samples of this worker; raise OSError if there is no space for the first one in the list, which then
        still contains everything that was not stored.
        """

    def note_alive(self, now: float) -> None:
        """Note that this worker is alive; raise OSError without space."""

    def note_end(self) -> None:
        """Note that this worker ends as it should."""

    def silent_seconds(self, now: float) -> dict[str, int]:
        """Return the process id of each worker that has not ended as it should, and since how many seconds it has not
        noted that it is alive. Workers that were lost are in it for ten minutes.
        """

    def is_due(self, now: float) -> bool:
        """Return whether some worker should collect and write."""

    def collected(self, now: float, *, patience: float) -> contextlib.AbstractContextManager[Ledger | None]:
        """Yield the ledger with all samples, and keep what the context does to it. Yield None if another worker has the
        ledger for longer than `patience` seconds. Raises OSError without space.
        """


class OwnMemory:
    """The ledger of a worker without a shared folder, which writes rows of its own."""

    def __init__(self) -> None:
        self.ledger, self.last, self.ended = Ledger(), 0.0, False

    def deliver(self, taken: list[Sample], now: float) -> None:
        while taken:
            self.ledger.add(taken.pop(0), now)

    def note_alive(self, now: float) -> None:
        pass

    def note_end(self) -> None:
        self.ended = True

    def silent_seconds(self, now: float) -> dict[str, int]:
        return {} if self.ended else {str(os.getpid()): 0}

    def is_due(self, now: float) -> bool:
        return is_due(self.last, now)

    @contextlib.contextmanager
    def collected(self, now: float, *, patience: float) -> Iterator[Ledger | None]:
        self.last = now
        yield self.ledger


class SharedFolder:
    """A folder in shared memory: each worker adds files with samples, and the one that gets the lock collects them.

    A file with a sample appears whole. It is deleted when the ledger's own file has its counts; a worker that dies
    between the two leaves its name in the ledger, so that it is not counted again. The time of a file `alive-<pid>` is
    when that worker was last alive.
    """

    def __init__(self, folder: Path, pid: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.alive = folder / f"alive-{pid or os.getpid()}"
        self.folder, self.state, self.lock = folder, folder / "ledger.json", folder / "lock"
        self.ended, self.ending = False, threading.Lock()

    def deliver(self, taken: list[Sample], now: float) -> None:
        while taken:
            self.replace(self.folder / f"sample-{uuid.uuid4().hex}.json", orjson.dumps(tuple(taken[0])))
            taken.pop(0)

    def note_alive(self, now: float) -> None:
        with self.ending:  # the loop goes on while the worker ends
            if not self.ended:
                self.alive.touch()
                os.utime(self.alive, (now, now))

    def note_end(self) -> None:
        with self.ending:
            self.ended = True
            self.alive.unlink(missing_ok=True)

    def silent_seconds(self, now: float) -> dict[str, int]:
        found = {}
        for path in self.folder.glob("alive-*"):
            with contextlib.suppress(FileNotFoundError):  # another worker has just ended
                seconds = max(0, round(now - path.stat().st_mtime))
                if seconds > FORGOTTEN_SECONDS:
                    path.unlink()
                else:
                    found[path.name.removeprefix("alive-")] = seconds
        return found

    def is_due(self, now: float) -> bool:
        try:
            return is_due(self.lock.stat().st_mtime, now)
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def collected(self, now: float, *, patience: float) -> Iterator[Ledger | None]:
        deadline = time.monotonic() + patience
        with open(self.lock, "ab") as file:
            while not (is_locked := try_lock(file.fileno(), fcntl.LOCK_EX)) and time.monotonic() < deadline:
                time.sleep(0.02)
            if not is_locked:
                yield None
                return
            os.utime(self.lock, (now, now))
            ledger = self.read()
            self.collect(ledger, now)
            yield ledger
            self.replace(self.state, ledger.dump())

    def read(self) -> Ledger:
        """Return the ledger as the last worker left it; a lost or broken one begins anew, with rows of its own."""
        try:
            return load(self.state.read_bytes())
        except FileNotFoundError:
            return Ledger()
        except ValueError:
            logger.warning("the ledger of figures is broken: a new one begins")
            return Ledger()

    def collect(self, ledger: Ledger, now: float) -> None:
        """Add all files to the ledger and delete them; other greenlets run between two files."""
        self.delete(ledger.merged)
        ledger.merged = []
        for path in sorted(self.folder.glob("sample-*.json")):
            try:
                ledger.add(Sample(*orjson.loads(path.read_bytes())), now)
            except (ValueError, TypeError):
                logger.warning("a sample of figures is broken", extra={"file": path.name})
            ledger.merged.append(path.name)
            time.sleep(0)
        self.replace(self.state, ledger.dump())
        self.delete(ledger.merged)

    def delete(self, names: list[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def replace(self, path: Path, data: bytes) -> None:
        """Write the file so that others see all of it or the old one; raise OSError."""
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            new.write_bytes(data)
            new.rename(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
