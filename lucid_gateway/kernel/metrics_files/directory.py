"""The private folder in which the workers of one gateway keep their metrics, for each of them to read.

gunicorn's master makes it at its start and removes it at its end. Nothing here imports prometheus_client, which looks
for the folder as soon as it is imported.
"""

import atexit
import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from lucid_gateway.kernel.env import ConfigurationError, stop

logger = logging.getLogger(__name__)
# In memory: a full disk stops no worker, and nothing is written to a disk over and over.
PREFIX, NEW_SECONDS = "lucid-metrics-", 60.0
MEMORY = "/dev/shm"  # noqa: S108  # mkdtemp makes a private folder in it
# What prometheus_client writes for each process, and the bytes that hold some hundred series of each.
RESERVED = {"counter": 1 << 17, "histogram": 1 << 19, "gauge_livesum": 1 << 16, "gauge_livemax": 1 << 16}
OF_A_PROCESS = sum(RESERVED.values()) + (1 << 16)  # and its last minute
# The number under which the dead are counted; no process has it.
DEAD = 0
PATIENCE_SECONDS = 0.2


@cache
def make_directory(workers: int) -> Path | None:
    """Return this gateway's folder, made anew by the first call; a reload of the configuration finds it again. None if
    it has no room for so many workers: a write without room would end the process (SIGBUS).

    Ends the process with one line if it cannot be made.
    """
    try:
        parent = Path(MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir())
        remove_abandoned(parent)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Never closed: the lock is there as long as the master or a worker is.
        try_lock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)
    except OSError as error:
        stop(ConfigurationError(f"METRICS_ENABLED: no temporary folder can be made ({type(error).__name__})"))
    atexit.register(remove_directory, directory, os.getpid())
    if has_room(directory, workers) and reserve(directory, DEAD) and reserve(directory, os.getpid()):
        return directory
    remove_directory(directory, os.getpid())
    return None


def has_room(directory: Path, workers: int) -> bool:
    """Return whether there is room for what the master, the dead and so many workers will write."""
    spare = directory / "spare"
    try:
        allocate(spare, OF_A_PROCESS * (workers + 2))
        spare.unlink()
    except OSError:
        return False
    return True


def allocate(path: Path, size: int) -> None:
    """Take the memory, or disk, for the first `size` bytes of a file; raise OSError, and make no file, if there is
    none.

    A new file is there with all its bytes or not at all: who reads the folder meanwhile finds no empty one.
    """
    new = path.with_suffix(".new")
    target = path if path.exists() else new
    try:
        with open(target, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        target.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of gateways that were killed: nobody holds their locks. A new one may not hold its own yet."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > NEW_SECONDS:
                remove_unless_held(directory)


def remove_unless_held(directory: Path) -> None:
    """Remove a folder whose lock can be had; raise OSError if it is none."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor, fcntl.LOCK_EX):
            shutil.rmtree(directory)
    finally:
        os.close(descriptor)


def remove_directory(directory: Path, maker: int) -> None:
    """Remove the folder when the process that made it ends; the ends of its children do not matter."""
    if os.getpid() == maker:
        shutil.rmtree(directory, ignore_errors=True)


def reserve(directory: Path, pid: int) -> bool:
    """Take the room for what the process will write; return whether there was enough. Else it keeps what it counts to
    itself (lucid_gateway/kernel/metrics_files/room.py).
    """
    try:
        for kind, size in RESERVED.items():
            allocate(directory / f"{kind}_{pid}.db", size)
    except OSError as error:
        logger.warning("no room for the metrics of a process", extra={"error": type(error).__name__})
        return False
    return True


@contextlib.contextmanager
def locked(directory: Path, mode: int) -> Iterator[bool]:
    """Hold the folder's lock, LOCK_SH to read or LOCK_EX to move counts; yield whether it could be had.

    Nobody waits long: gunicorn's master must not stand still for a reader, nor a worker for the master.
    """
    with open(directory / "lock", "ab") as file:
        deadline = time.monotonic() + (PATIENCE_SECONDS if mode == fcntl.LOCK_SH else 0)
        while not (held := try_lock(file.fileno(), mode)) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield held


def try_lock(descriptor: int, mode: int) -> bool:
    """Return whether the lock could be had at once."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
