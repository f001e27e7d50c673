"""The loop that writes kept requests to the database."""

import pytest
from django.db import DatabaseError

from lucid_gateway.explorer import writing
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.explorer.tests.stage import finished
from lucid_gateway.explorer.writing import BATCH, MAX_WAITING, Writer, insert
from lucid_gateway.server.kept_requests import KeptRequests


@pytest.fixture
def source() -> KeptRequests:
    """An empty buffer, which these tests fill beyond its caps."""
    return KeptRequests(1, enabled=True, sample_percent=0)


def test_everything_in_the_buffer_is_written(db: None, source: KeptRequests) -> None:
    source.buffer.extend(finished() for _ in range(2 * BATCH + 1))

    Writer(source).write()

    assert KeptRequest.objects.count() == 2 * BATCH + 1
    assert not source.buffer


def fail(*_: object) -> None:
    raise DatabaseError


def test_rows_wait_while_the_database_fails(db: None, source: KeptRequests, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(source)
    source.buffer.extend(finished() for _ in range(3))
    with monkeypatch.context() as patch:
        patch.setattr(writing, "insert", fail)
        writer.write()
        assert len(writer.waiting) == 3

    writer.write()

    assert (KeptRequest.objects.count(), writer.waiting) == (3, [])


def test_a_long_outage_leaves_the_oldest_rows_out_and_counts_them(
    source: KeptRequests, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(source)
    counted: list[tuple[str, str, int]] = []
    monkeypatch.setattr(writing, "insert", fail)
    monkeypatch.setattr(writing, "count", lambda *counts: counted.append(counts))
    source.buffer.extend(finished() for _ in range(MAX_WAITING))
    writer.write()
    newest = finished()
    source.buffer.append(newest)

    writer.write()

    assert len(writer.waiting) == MAX_WAITING
    assert abs(writer.waiting[-1].started_at.timestamp() - (newest.ended_at - newest.seconds)) < 0.001
    assert counted == [("explorer_left_out", "database", 1)]


def test_rows_that_were_written_before_a_failure_are_not_written_twice(db: None) -> None:
    rows = [row_of(finished()) for _ in range(3)]
    insert(rows[:2])

    insert(rows)

    assert KeptRequest.objects.count() == 3
