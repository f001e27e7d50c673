"""Writers of several workers and gateways: together their rows have exactly what was counted."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError

from lucid_gateway.figures.models import KEPT_SECONDS, Sample, columns
from lucid_gateway.figures.stores import OwnMemory, SharedFolder
from lucid_gateway.figures.writing import Writer
from lucid_gateway.server import samples

NOW = 1_000_000_204.0  # the samples of the ten seconds before are due


def sample(n: int, *, start: int = 1_000_000_190, name: str = "2xx") -> samples.Sample:
    return samples.Sample(start, {"statuses": {name: n}})


class Worker:
    """A worker with counts of its own."""

    def __init__(self, folder: Path | None, pid: int | None = None) -> None:
        self.counted = samples.Samples()
        self.writer = Writer(OwnMemory() if folder is None else SharedFolder(folder, pid), self.counted)

    def counts(self, *given: samples.Sample) -> "Worker":
        self.counted.closed.extend(given)
        return self


def totals(seconds: int, group: str = "statuses") -> dict[str, int]:
    """Return the sums over all rows of that length."""
    found: Counter[str] = Counter()
    for row in Sample.objects.filter(seconds=seconds):
        found.update(row.groups.get(group, {}))
    return dict(found)


def failing(*_: Any, **__: Any) -> None:
    raise DatabaseError("down")


def test_one_worker_writes_what_all_workers_of_its_gateway_counted(db: None, tmp_path: Path) -> None:
    workers = [Worker(tmp_path).counts(sample(n)) for n in (1, 2, 4)]
    for worker in workers[1:]:
        worker.writer.deliver(NOW)
    workers[0].writer.work(NOW)

    for seconds in (10, 60, 600, 3600):
        assert totals(seconds) == {"2xx": 7}
        assert Sample.objects.filter(seconds=seconds).count() == 1


def test_two_gateways_have_rows_of_their_own(db: None, tmp_path: Path) -> None:
    for name, n in (("a", 3), ("b", 5)):
        Worker(tmp_path / name if (tmp_path / name).mkdir() is None else None).counts(sample(n)).writer.work(NOW)

    assert totals(60) == {"2xx": 8}
    assert Sample.objects.filter(seconds=60).count() == 2


def test_workers_without_a_shared_folder_have_rows_of_their_own(db: None) -> None:
    for n in (3, 5):
        Worker(None).counts(sample(n)).writer.work(NOW)

    assert totals(10) == totals(60) == totals(600) == totals(3600) == {"2xx": 8}


@pytest.mark.parametrize("shared", [True, False])
def test_a_row_of_ten_minutes_grows_with_each_round(db: None, tmp_path: Path, shared: bool) -> None:
    worker = Worker(tmp_path if shared else None)
    for number in range(6):
        worker.counts(sample(2, start=1_000_000_200 + 10 * number)).writer.work(NOW + 10 + 10 * number)

    assert totals(600) == totals(60) == totals(10) == {"2xx": 12}
    assert Sample.objects.filter(seconds=10, start__gte=1_000_000_200).count() == 6
    assert Sample.objects.filter(seconds=60, start__gte=1_000_000_200).count() == 1


def test_a_gateway_without_requests_says_that_it_is_alive(db: None, tmp_path: Path) -> None:
    Worker(tmp_path).writer.work(NOW)

    row = Sample.objects.get(seconds=10)
    assert (row.start, row.groups) == (1_000_000_190, {"figures": {"rounds": 1}, "workers": {str(os.getpid()): 0}})


def test_rows_are_written_once_in_ten_seconds(db: None, tmp_path: Path) -> None:
    one, other = Worker(tmp_path), Worker(tmp_path)
    one.writer.work(NOW)
    other.counts(sample(1)).writer.work(NOW + 2)
    assert totals(10) == {}

    other.writer.work(NOW + 10)
    assert totals(10) == {"2xx": 1}


def test_a_late_worker_is_counted_in_the_time_that_it_counted(db: None, tmp_path: Path) -> None:
    Worker(tmp_path).counts(sample(1)).writer.work(NOW)
    Worker(tmp_path).counts(sample(2)).writer.work(NOW + 40)

    row = Sample.objects.get(seconds=10, start=1_000_000_190)
    assert row.groups["statuses"] == {"2xx": 3}


def test_what_a_dead_worker_delivered_is_counted(db: None, tmp_path: Path) -> None:
    Worker(tmp_path).counts(sample(4)).writer.deliver(NOW)  # and nothing more
    Worker(tmp_path).writer.work(NOW)

    assert totals(10) == {"2xx": 4}


def test_a_worker_that_dies_after_the_ledger_is_saved_is_not_counted_twice(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Died()

    worker = Worker(tmp_path).counts(sample(4))
    worker.writer.deliver(NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(Died):
            worker.writer.work(NOW)
    assert list(tmp_path.glob("sample-*"))

    Worker(tmp_path).writer.work(NOW + 10)
    assert totals(10) == totals(600) == {"2xx": 4}
    assert not list(tmp_path.glob("sample-*"))


def test_nothing_is_lost_while_the_database_is_down(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workers = [Worker(tmp_path), Worker(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(Sample, "save", failing)
        for number in range(20):
            workers[1].counts(sample(1, start=1_000_000_200 + 10 * number))
            workers[1].writer.deliver(NOW)
            workers[0].writer.work(NOW + 10 + 10 * number)
    assert totals(10) == {}
    assert [entry.message for entry in caplog.records] == ["figures wait for the database"]

    workers[0].writer.work(NOW + 210)
    assert totals(10) == totals(60) == totals(600) == {"2xx": 20}


def test_a_write_that_failed_halfway_is_repeated_without_counting_twice(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = Sample.save, []

    def save_twice(row: Sample, **options: Any) -> None:
        calls.append(row)
        save(row, **options)
        if len(calls) == 2:  # the row is there, but the writer learns of a failure
            raise DatabaseError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Sample, "save", save_twice)
        worker = Worker(tmp_path).counts(sample(4))
        worker.writer.work(NOW)
    worker.counts(sample(1, start=1_000_000_200)).writer.work(NOW + 10)

    assert totals(10) == totals(60) == totals(600) == {"2xx": 5}


def test_rows_that_waited_too_long_are_counted_as_lost(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(tmp_path).counts(sample(4))
    with monkeypatch.context() as patch:
        patch.setattr(Sample, "save", failing)
        worker.writer.work(NOW)
        worker.writer.work(NOW + 700)
    counted: list[tuple[str, str, int]] = []
    monkeypatch.setattr(samples, "count", lambda *given: counted.append(given))
    worker.writer.work(NOW + 710)

    assert [(group, name) for group, name, _ in counted] == [("figures", "rows_lost")]
    assert counted[0][2] >= 1


def test_samples_wait_in_memory_while_there_is_no_space(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError("no space left on device")

    worker = Worker(tmp_path).counts(sample(4), sample(1, start=1_000_000_180))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_space)
        worker.writer.deliver(NOW)
    worker.writer.work(NOW)

    assert totals(600) == {"2xx": 5}


def test_a_broken_file_does_not_stop_the_others(db: None, tmp_path: Path) -> None:
    worker = Worker(tmp_path).counts(sample(4))
    for name, content in (("sample-1-0.json", b"{"), ("sample-1-1.json", b"[1]"), ("ledger.json", b"[]")):
        (tmp_path / name).write_bytes(content)
    worker.writer.work(NOW)

    assert totals(10) == {"2xx": 4}
    assert not list(tmp_path.glob("sample-*"))


def test_a_restarted_gateway_overwrites_no_row_of_its_predecessor(db: None, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Worker(tmp_path / name).counts(sample(4)).writer.work(NOW)

    assert totals(600) == {"2xx": 8}


def test_the_last_counts_are_written_when_a_worker_ends(db: None, tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.counted.current()["statuses"]["2xx"] += 3
    worker.writer.finish()

    assert totals(10) == {"2xx": 3}


def test_a_worker_that_has_ended_is_not_noted_as_alive_again(db: None, tmp_path: Path) -> None:
    ending, other = Worker(tmp_path, pid=7), Worker(tmp_path, pid=8)
    ending.writer.work(NOW)
    ending.writer.finish(NOW + 1)
    ending.writer.work(NOW + 2)  # the loop of the worker was in the middle of its round
    other.writer.work(NOW + 3)

    assert set(other.writer.store.silent_seconds(NOW + 3)) == {"8"}


def test_a_worker_that_cannot_write_ends_all_the_same(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    Worker(tmp_path).counts(sample(1)).writer.finish()


def test_old_rows_are_deleted_every_ten_minutes(db: None, tmp_path: Path) -> None:
    kept, over = (
        Sample(name, "gateway", 60, int(NOW) - age, **columns({})) for name, age in (("a", 60), ("b", KEPT_SECONDS + 1))
    )
    kept.save()
    over.save()
    Worker(tmp_path).writer.work(NOW)

    assert set(Sample.objects.filter(gateway="gateway").values_list("sample_id", flat=True)) == {"a"}


def workers_in_newest_row() -> dict[str, int]:
    return dict(Sample.objects.filter(seconds=10).order_by("-start")[0].groups["workers"])


def test_a_row_says_which_workers_are_alive(db: None, tmp_path: Path) -> None:
    one, two, three = (Worker(tmp_path, pid) for pid in (1, 2, 3))
    for worker in (two, three):
        worker.writer.deliver(NOW - 2)
    one.writer.work(NOW)
    assert workers_in_newest_row() == {"1": 0, "2": 2, "3": 2}

    three.writer.finish(NOW)  # as it should
    one.writer.work(NOW + 30)  # nobody has heard of the second one
    assert workers_in_newest_row() == {"1": 0, "2": 32}


def test_a_lost_worker_is_forgotten_after_ten_minutes(db: None, tmp_path: Path) -> None:
    one, lost = Worker(tmp_path, 1), Worker(tmp_path, 2)
    lost.writer.deliver(NOW)
    one.writer.work(NOW + 601)
    one.writer.work(NOW + 620)

    assert workers_in_newest_row() == {"1": 0}


def test_longer_rows_name_no_workers(db: None, tmp_path: Path) -> None:
    Worker(tmp_path).writer.work(NOW)

    assert totals(60, "workers") == totals(3600, "workers") == {}
    assert totals(60, "figures") == {"rounds": 1}
