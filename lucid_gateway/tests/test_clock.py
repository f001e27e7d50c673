"""Clocks that differ: noticed beyond five seconds, however long the answer took."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.clock import compare_clock, database_now


@pytest.fixture(autouse=True)
def no_advice() -> Iterator[None]:
    yield
    advisories.clear("clock of Redis")


@pytest.mark.usefixtures("db")
def test_the_database_tells_the_time() -> None:
    assert abs(database_now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(("ahead", "words"), [(-3600, "s ahead of that of Redis"), (3600, "s behind that of Redis")])
def test_a_clock_that_differs_is_named_with_by_how_much(ahead: int, words: str) -> None:
    now = time.time()
    compare_clock("Redis", now + ahead, asked_at=now)

    (text,) = advisories.texts()
    assert words in text


def test_a_clock_that_agrees_again_is_not_named_any_more() -> None:
    compare_clock("Redis", time.time() + 60, asked_at=time.time())
    compare_clock("Redis", time.time(), asked_at=time.time())

    assert advisories.texts() == []


def test_a_slow_answer_is_no_difference() -> None:
    now = time.time()
    compare_clock("Redis", now - 20, asked_at=now - 30)

    assert advisories.texts() == []


def test_the_log_has_one_line_for_each_time_that_it_begins(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        compare_clock("Redis", time.time() + 60, asked_at=time.time())

    assert [record.getMessage() for record in caplog.records] == ["advisory"]
