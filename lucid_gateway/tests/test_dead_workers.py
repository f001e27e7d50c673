"""What remains of dead workers' files, and how long processes wait for each other."""

import fcntl
import os
import time
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from lucid_gateway.kernel.metrics_files.dead_workers import collect_dead_worker
from lucid_gateway.kernel.metrics_files.directory import PATIENCE_SECONDS, locked
from lucid_gateway.kernel.metrics_files.last_minute import Ring

KEY = mmap_key("lucid_tests", "lucid_tests_total", [], [], "Tests")
DEAD, LIVING = 900_001, 900_002


def write(directory: Path, kind: str, pid: int, value: float) -> Path:
    """Write a file as a process that counted `value` would leave it."""
    path = directory / f"{kind}_{pid}.db"
    counts = MmapedDict(str(path))
    counts.write_value(KEY, value, 0.0)
    counts.close()
    return path


def total(directory: Path) -> float:
    """Return the sum that a scrape reports."""
    (metric,) = MultiProcessCollector.merge([str(path) for path in directory.glob("counter_*.db")])
    return float(sum(sample.value for sample in metric.samples))


def test_counts_of_dead_workers_are_added_up(tmp_path: Path) -> None:
    write(tmp_path, "counter", LIVING, 3)
    for _ in range(3):
        write(tmp_path, "counter", DEAD, 2)
        collect_dead_worker(tmp_path, DEAD, living=[LIVING])

    assert total(tmp_path) == 9
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_0.db", f"counter_{LIVING}.db"}


def test_gauges_of_dead_workers_are_removed(tmp_path: Path) -> None:
    gone, stays = (write(tmp_path, "gauge_livesum", pid, 1) for pid in (DEAD, LIVING))

    collect_dead_worker(tmp_path, DEAD, living=[LIVING])

    assert (gone.exists(), stays.exists()) == (False, True)


def test_counts_stay_in_their_files_while_a_scrape_reads(tmp_path: Path) -> None:
    left = write(tmp_path, "counter", DEAD, 2)
    with locked(tmp_path, fcntl.LOCK_SH):
        collect_dead_worker(tmp_path, DEAD, living=[])
        assert left.exists()
    collect_dead_worker(tmp_path, LIVING, living=[])

    assert not left.exists()
    assert total(tmp_path) == 2


@pytest.mark.quiet
def test_a_scrape_waits_only_briefly_for_the_master(tmp_path: Path) -> None:
    started = time.monotonic()
    with locked(tmp_path, fcntl.LOCK_EX) as held, locked(tmp_path, fcntl.LOCK_SH) as shared:
        assert (held, shared) == (True, False)

    assert PATIENCE_SECONDS <= time.monotonic() - started < PATIENCE_SECONDS + 10


def test_the_last_minute_of_a_dead_worker_stays_for_a_minute(tmp_path: Path) -> None:
    lately, long_ago, idle, own = (tmp_path / f"last_minute_{pid}.bin" for pid in (DEAD, DEAD + 2, LIVING, os.getpid()))
    Ring(lately).note(0.1, failed=False)
    Ring(long_ago).note(0.1, failed=False, now=1)
    Ring(idle)
    Ring(own)

    collect_dead_worker(tmp_path, DEAD, living=[LIVING])

    assert set(tmp_path.glob("last_minute_*")) == {lately, idle, own}
