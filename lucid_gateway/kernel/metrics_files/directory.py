"""The private folder in which a gateway's workers keep their metrics, so that each worker can read them all.

gunicorn's master creates it at startup and removes it at the end. This module does not import prometheus_client, which
looks for the folder as soon as it is imported.
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
# In memory, so that a full disk stops no worker and no disk wears out.
PREFIX, NEW_SECONDS = "lucid-metrics-", 60.0
MEMORY = "/dev/shm"  # noqa: S108  # mkdtemp makes a private folder in it
# The kinds of files that prometheus_client writes for each process, and the bytes for some hundred series of each.
RESERVED = {"counter": 1 << 17, "histogram": 1 << 19, "gauge_livesum": 1 << 16, "gauge_livemax": 1 << 16}
PROCESS_BYTES = sum(RESERVED.values()) + (1 << 16)  # including the last minute
# The counts of dead workers have this number in place of a process id; no process has it.
DEAD = 0
PATIENCE_SECONDS = 0.2


@cache
def make_directory(workers: int) -> Path | None:
    """Return this gateway's folder, which the first call creates and a reload of the configuration keeps.

    Returns None if there is no space for that many workers, because a write without space would end the process
    (SIGBUS). Ends the process with a one-line message if the folder cannot be created.
    """
    try:
        parent = Path(MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir())
        remove_abandoned(parent)
        directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Never closed: the lock lasts as long as the master or a worker lives.
        try_lock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)
    except OSError as error:
        stop(ConfigurationError(f"METRICS_ENABLED: cannot create a temporary folder ({type(error).__name__})"))
    atexit.register(remove_directory, directory, os.getpid())
    if has_space(directory, workers) and reserve(directory, DEAD) and reserve(directory, os.getpid()):
        return directory
    remove_directory(directory, os.getpid())
    return None


def has_space(directory: Path, workers: int) -> bool:
    """Return whether there is space for the files of the master, the dead workers and that many workers."""
    spare = directory / "spare"
    try:
        allocate(spare, PROCESS_BYTES * (workers + 2))
        spare.unlink()
    except OSError:
        return False
    return True


def allocate(path: Path, size: int) -> None:
    """Reserve memory or disk for the first `size` bytes of a file; raise OSError, and create no file, without space.

    A new file appears with all its bytes or not at all, so that readers of the folder never find an empty one.
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
    """Remove the folders of killed gateways: those without a lock, except new ones, which may not be locked yet."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if status.st_uid == os.getuid() and time.time() - status.st_mtime > NEW_SECONDS:
                remove_unless_locked(directory)


def remove_unless_locked(directory: Path) -> None:
    """Remove the folder if no process locks it; raise OSError if it is not a folder."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if try_lock(descriptor, fcntl.LOCK_EX):
            shutil.rmtree(directory)
    finally:
        os.close(descriptor)


def remove_directory(directory: Path, maker: int) -> None:
    """Remove the folder if this is the process that created it, not one of its children."""
    if os.getpid() == maker:
        shutil.rmtree(directory, ignore_errors=True)


def reserve(directory: Path, pid: int) -> bool:
    """Reserve space for the files of a process; return False if there is too little. Then the process keeps its counts
    in its own memory (`lucid_gateway.kernel.metrics_files.reserved_files`).
    """
    try:
        for kind, size in RESERVED.items():
            allocate(directory / f"{kind}_{pid}.db", size)
    except OSError as error:
        logger.warning("no space for the metrics of a process", extra={"error": type(error).__name__})
        return False
    return True


@contextlib.contextmanager
def locked(directory: Path, mode: int) -> Iterator[bool]:
    """Try to lock the folder, with LOCK_SH to read or LOCK_EX to move counts; yield whether it is locked.

    The wait is short: gunicorn's master must not wait for a reader, nor a worker for the master.
    """
    with open(directory / "lock", "ab") as file:
        deadline = time.monotonic() + (PATIENCE_SECONDS if mode == fcntl.LOCK_SH else 0)
        while not (is_locked := try_lock(file.fileno(), mode)) and time.monotonic() < deadline:
            time.sleep(0.005)
        yield is_locked


def try_lock(descriptor: int, mode: int) -> bool:
    """Take the lock if that needs no waiting; return whether it was taken."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
