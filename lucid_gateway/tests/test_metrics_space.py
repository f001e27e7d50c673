"""Metrics without space in /dev/shm: the gateway does without them, and no process ends."""

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from prometheus_client.mmap_dict import MmapedDict

from lucid_gateway.kernel.metrics_files.dead_workers import add
from lucid_gateway.kernel.metrics_files.directory import has_space, reserve
from lucid_gateway.kernel.metrics_files.last_minute import Ring
from lucid_gateway.kernel.metrics_files.reserved_files import ReservedDict
from testing.gateway import Gateway, running_gateway
from testing.hammer import api, workers
from testing.http.client import ask
from testing.http.messages import Message
from testing.waiting import wait_until

METRICS = "/meta/metrics?format=prometheus"


def with_little_memory(size: str) -> list[str]:
    """Return a command prefix that runs the rest with its own /dev/shm of that size."""
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", *([] if os.getuid() == 0 else ["--map-root-user"]), "--mount", "sh", "-c", mount, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode and os.getuid() != 0:
        pytest.skip("needs root, or user namespaces, to mount a small /dev/shm")
    assert tried.returncode == 0, tried.stderr
    return command


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes in this context."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def ask_often(gateway: Gateway) -> set[int]:
    return {ask(gateway.port, api("GET", "/meta/version")).status for _ in range(20)}


def scrape(gateway: Gateway, token: str) -> Message:
    return ask(gateway.port, api("GET", METRICS, token=token))


def lines(gateway: Gateway) -> list[str]:
    return [line for line in gateway.log.read_text().splitlines() if "no space for metrics" in line]


def fill(gateway: Gateway) -> None:
    """Fill the gateway's /dev/shm to the last byte."""
    path = f"/proc/{gateway.process.pid}/root/dev/shm/full"
    with open(path, "ab", buffering=0) as file, pytest.raises(OSError, match="No space"):
        write_on(file)


def write_on(file: IO[bytes]) -> None:
    while True:
        file.write(bytes(4096))


def test_a_gateway_without_space_disables_metrics_and_logs_it_once() -> None:
    with running_gateway(*with_little_memory("1m")) as gateway:
        token = gateway.issue_token("operator@lucid.test")
        before = workers(gateway)
        assert ask_often(gateway) == {200}
        assert scrape(gateway, token).status == 404
        assert workers(gateway) == before
        assert len(lines(gateway)) == 1


def test_a_worker_that_runs_out_of_space_later_still_serves_requests() -> None:
    with running_gateway(*with_little_memory("8m")) as gateway:
        token = gateway.issue_token("operator@lucid.test")
        fill(gateway)
        before = set(workers(gateway))
        os.kill(gateway.process.pid, signal.SIGHUP)  # the new workers start before the old ones free their space
        wait_until(lambda: len(now := set(workers(gateway))) == 2 and not now & before, 60)
        fill(gateway)
        others = set(workers(gateway))
        assert ask_often(gateway) == {200}
        assert scrape(gateway, token).status == 200
        assert set(workers(gateway)) == others
        assert lines(gateway)


def test_a_file_without_space_to_grow_continues_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    with file_size_limit(1 << 16), contextlib.closing(ReservedDict(str(path))) as counts:
        names = [f"{number}" * 1000 for number in range(10, 99)]
        for number, name in enumerate(names):
            counts.write_value(name, number, 0.0)
        assert [counts.read_value(name)[0] for name in names] == list(range(len(names)))
        assert not counts.shared
    kept = list(MmapedDict.read_all_values_from_file(str(path)))
    assert 0 < len(kept) < len(names)


def test_a_file_with_space_grows_and_other_processes_can_read_it(tmp_path: Path) -> None:
    names = [f"{number}" * 1000 for number in range(10, 99)]
    with contextlib.closing(ReservedDict(str(tmp_path / "counter_1.db"))) as counts:
        for number, name in enumerate(names):
            counts.write_value(name, number, 0.0)
        assert counts.shared
    read = MmapedDict.read_all_values_from_file(str(tmp_path / "counter_1.db"))
    assert {name: value for name, value, *_ in read} == {name: number for number, name in enumerate(names)}
    assert os.stat(tmp_path / "counter_1.db").st_blocks * 512 >= 1 << 17  # no holes


def test_files_without_space_leave_no_empty_file(tmp_path: Path) -> None:
    with file_size_limit(1000):
        counts = ReservedDict(str(tmp_path / "counter_1.db"))
        counts.write_value("name", 1.0, 0.0)
        assert counts.read_value("name")[0] == 1.0
        assert not reserve(tmp_path, 2)
        assert not has_space(tmp_path, 1)
        with pytest.raises(OSError, match="File too large"):
            Ring(tmp_path / "last_minute_1.bin")

    assert list(tmp_path.iterdir()) == []


def test_without_space_the_counts_of_dead_workers_stay_in_their_files(tmp_path: Path) -> None:
    with contextlib.closing(ReservedDict(str(tmp_path / "counter_1.db"))) as left:
        left.write_value("name", 1.0, 0.0)
    with file_size_limit(1000), pytest.raises(RuntimeError):
        add(tmp_path / "counter_1.db", to=tmp_path / "counter_0.db")

    assert (tmp_path / "counter_1.db").exists()


def test_enough_space_is_reserved(tmp_path: Path) -> None:
    assert has_space(tmp_path, 2)
    assert reserve(tmp_path, 1)
    assert not (tmp_path / "spare").exists()
