"""gunicorn's master adds the counts of dead workers to one set of files, and removes the workers' own files.

Otherwise each worker that ever lived would leave its files, and every scrape would read them all.
"""

import fcntl
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import mark_process_dead

from lucid_gateway.kernel.metrics_files.directory import DEAD, locked
from lucid_gateway.kernel.metrics_files.last_minute import FILES, is_over
from lucid_gateway.kernel.metrics_files.reserved_files import ReservedDict

KEPT = ("counter", "histogram")


def collect_dead_worker(directory: Path, pid: int, *, living: Collection[int]) -> None:
    """Drop a dead worker's gauges, and keep its counts. While a scrape reads the files, the counts wait until the next
    worker dies. Raises OSError, or RuntimeError for a broken file.
    """
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]
    with locked(directory, fcntl.LOCK_EX) as is_locked:
        for kind in KEPT if is_locked else ():
            for counts in files_of_dead(directory, f"{kind}_*.db", living):
                add(counts, to=directory / f"{kind}_{DEAD}.db")
    for ring in files_of_dead(directory, FILES, living):
        if is_over(ring):
            ring.unlink()


def files_of_dead(directory: Path, pattern: str, living: Collection[int]) -> Iterator[Path]:
    """Yield the files of processes that are neither living workers nor this one."""
    for path in directory.glob(pattern):
        if int(path.stem.rpartition("_")[2]) not in {DEAD, os.getpid(), *living}:
            yield path


def add(source: Path, *, to: Path) -> None:
    """Add the counts of one file to those of another, and remove the first; raise RuntimeError if there is no space."""
    total = ReservedDict(str(to))
    for key, value, *_ in MmapedDict.read_all_values_from_file(str(source)):  # type: ignore[no-untyped-call]
        total.write_value(key, total.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
    total.close()  # type: ignore[no-untyped-call]
    if not total.shared:
        raise RuntimeError("no space for the counts of dead workers")
    source.unlink()
