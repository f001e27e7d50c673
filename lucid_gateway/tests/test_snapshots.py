"""Tables that workers keep in memory: when they are read again, and that no write is missed."""

import uuid
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from django.db import DatabaseError

from lucid_gateway.kernel.snapshots import snapshot as module
from lucid_gateway.kernel.snapshots.models import Revision
from lucid_gateway.kernel.snapshots.snapshot import FULL_READ_SECONDS, Revisions, Snapshot, revisions
from testing.parallel import in_parallel


class Table:
    """A table, a worker's snapshot of it, and the number of reads."""

    def __init__(self) -> None:
        self.value, self.reads = "old", 0
        self.snapshot = Snapshot("some_table", self.read, "")

    def read(self) -> str:
        self.reads += 1
        return self.value

    def follow(self, rounds: int = 1) -> int:
        """Poll as a worker does every two seconds; return the number of reads of the table."""
        before = self.reads
        for _ in range(rounds):
            revisions.read()
            self.snapshot.renew()
        return self.reads - before


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The monotonic clock, frozen unless the test changes it."""
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    yield clock
    revisions.known, revisions.read_at = {}, float("-inf")


@pytest.fixture
def table(db: None, clock: SimpleNamespace) -> Table:
    table = Table()
    table.follow()
    return table


def test_a_worker_begins_with_a_read(db: None, clock: SimpleNamespace) -> None:
    table = Table()
    assert (table.snapshot.current, table.snapshot.read_at) == ("", None)

    assert table.follow() == 1
    assert (table.snapshot.current, table.snapshot.read_at) == ("old", clock.now)


def test_an_unchanged_table_is_read_once_a_minute(table: Table, clock: SimpleNamespace) -> None:
    clock.now += FULL_READ_SECONDS - 1
    assert table.follow(rounds=5) == 0
    clock.now += 1
    assert table.follow(rounds=5) == 1


def test_a_write_is_read_immediately_and_only_once(table: Table) -> None:
    with Snapshot("some_table", table.read, "").changing():
        table.value = "new"

    assert (table.follow(rounds=5), table.snapshot.current) == (1, "new")


def test_the_writer_has_read_its_own_write(table: Table) -> None:
    with table.snapshot.changing():
        table.value = "new"

    assert table.snapshot.current == "new"


def test_a_write_to_another_table_causes_no_read(table: Table) -> None:
    with Snapshot("another_table", str, "").changing():
        pass

    assert table.follow() == 0


def test_a_worker_that_reads_during_a_write_reads_again(table: Table) -> None:
    with Snapshot("some_table", table.read, "").changing():
        assert (table.follow(), table.snapshot.current) == (1, "old")
        table.value = "new"

    table.follow()
    assert table.snapshot.current == "new"


def test_a_writer_that_dies_halfway_is_noticed(table: Table) -> None:
    writing = Snapshot("some_table", table.read, "").changing()
    writing.__enter__()
    table.value = "new"

    assert (table.follow(), table.snapshot.current) == (1, "new")


def test_a_write_that_raised_but_was_applied_is_noticed(table: Table) -> None:
    def write() -> None:
        with Snapshot("some_table", table.read, "").changing():
            table.follow()
            table.value = "new"
            raise DatabaseError

    with pytest.raises(DatabaseError):
        write()

    assert (table.follow(), table.snapshot.current) == (1, "new")


@pytest.mark.parametrize("restored", [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), None])
def test_a_database_that_was_restored_is_read(table: Table, restored: uuid.UUID | None) -> None:
    table.snapshot.change_revision()
    table.follow()
    Revision.objects.all().delete()
    if restored:
        Revision.objects.create(table="some_table", value=restored)

    assert table.follow(rounds=5) == 1


def test_a_failed_read_keeps_the_old_snapshot_and_is_retried(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise DatabaseError

    table.snapshot.change_revision()
    with monkeypatch.context() as patch:
        patch.setattr(table.snapshot, "read", fail)
        with pytest.raises(DatabaseError):
            table.follow()
    table.value = "new"

    assert table.snapshot.current == "old"
    assert (table.follow(), table.snapshot.current) == (1, "new")


def test_a_snapshot_is_as_current_as_the_last_read_of_its_revision(table: Table, clock: SimpleNamespace) -> None:
    clock.now += 10
    table.follow()
    assert table.snapshot.read_at == clock.now
    clock.now += 10
    table.snapshot.renew()  # the revisions could not be read
    assert table.snapshot.read_at == clock.now - 10


def test_one_query_reads_all_revisions(table: Table, django_assert_num_queries: type) -> None:
    with django_assert_num_queries(1):
        assert table.follow() == 0


def test_parallel_writers_leave_one_new_revision(transactional_db: None) -> None:
    for _ in range(3):
        before = Revisions()
        before.read()
        in_parallel(8, lambda _: Snapshot("some_table", str, "").change_revision())
        after = Revisions()
        after.read()
        assert before.known.get("some_table") != after.known["some_table"]
        assert Revision.objects.count() == 1
