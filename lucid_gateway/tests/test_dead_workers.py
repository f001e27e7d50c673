"""What is left of dead workers' files, and who waits for whom."""

import fcntl
import os
import time
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from lucid_gateway.kernel.metrics_files.dead_workers import bury
from lucid_gateway.kernel.metrics_files.directory import PATIENCE_SECONDS, locked
from lucid_gateway.kernel.metrics_files.last_minute import Ring

KEY = mmap_key("lucid_tests", "lucid_tests_total", [], [], "Tests")
DEAD, LIVING = 900_001, 900_002


def write(directory: Path, kind: str, pid: int, value: float) -> Path:
    """Leave what a process would have counted."""
    path = directory / f"{kind}_{pid}.db"
    counts = MmapedDict(str(path))
    counts.write_value(KEY, value, 0.0)
    counts.close()
    return path


def total(directory: Path) -> float:
    """Return what a scrape adds up."""
    (metric,) = MultiProcessCollector.merge([str(path) for path in directory.glob("counter_*.db")])
    return float(sum(sample.value for sample in metric.samples))


def test_counts_of_the_dead_are_added_up(tmp_path: Path) -> None:
    write(tmp_path, "counter", LIVING, 3)
    for _ in range(3):
        write(tmp_path, "counter", DEAD, 2)
        bury(tmp_path, DEAD, living=[LIVING])

    assert total(tmp_path) == 9
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_0.db", f"counter_{LIVING}.db"}


def test_what_was_under_way_is_forgotten(tmp_path: Path) -> None:
    gone, stays = (write(tmp_path, "gauge_livesum", pid, 1) for pid in (DEAD, LIVING))

    bury(tmp_path, DEAD, living=[LIVING])

    assert (gone.exists(), stays.exists()) == (False, True)


def test_while_a_scrape_reads_counts_stay_where_they_are_until_the_next_death(tmp_path: Path) -> None:
    left = write(tmp_path, "counter", DEAD, 2)
    with locked(tmp_path, fcntl.LOCK_SH):
        bury(tmp_path, DEAD, living=[])
        assert left.exists()
    bury(tmp_path, LIVING, living=[])

    assert not left.exists()
    assert total(tmp_path) == 2


@pytest.mark.quiet
def test_a_scrape_waits_a_moment_for_the_master_and_goes_on(tmp_path: Path) -> None:
    started = time.monotonic()
    with locked(tmp_path, fcntl.LOCK_EX) as held, locked(tmp_path, fcntl.LOCK_SH) as shared:
        assert (held, shared) == (True, False)

    assert PATIENCE_SECONDS <= time.monotonic() - started < PATIENCE_SECONDS + 10


def test_the_last_minute_of_the_dead_stays_for_a_minute(tmp_path: Path) -> None:
    lately, long_ago, idle, own = (tmp_path / f"last_minute_{pid}.bin" for pid in (DEAD, DEAD + 2, LIVING, os.getpid()))
    Ring(lately).note(0.1, failed=False)
    Ring(long_ago).note(0.1, failed=False, now=1)
    Ring(idle)
    Ring(own)

    bury(tmp_path, DEAD, living=[LIVING])

    assert set(tmp_path.glob("last_minute_*")) == {lately, idle, own}
