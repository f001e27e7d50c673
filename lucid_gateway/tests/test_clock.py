"""Clocks that differ by more than five seconds are reported, however long the answer took."""

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
def test_the_database_returns_its_time() -> None:
    assert abs(database_now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(("ahead", "words"), [(-3600, "s ahead of that of Redis"), (3600, "s behind that of Redis")])
def test_a_clock_that_differs_is_reported_with_the_difference(ahead: int, words: str) -> None:
    now = time.time()
    compare_clock("Redis", now + ahead, asked_at=now)

    (text,) = advisories.texts()
    assert words in text


def test_a_clock_that_agrees_again_is_no_longer_reported() -> None:
    compare_clock("Redis", time.time() + 60, asked_at=time.time())
    compare_clock("Redis", time.time(), asked_at=time.time())

    assert advisories.texts() == []


def test_a_slow_answer_is_not_a_difference() -> None:
    now = time.time()
    compare_clock("Redis", now - 20, asked_at=now - 30)

    assert advisories.texts() == []


def test_each_new_difference_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        compare_clock("Redis", time.time() + 60, asked_at=time.time())

    assert [record.getMessage() for record in caplog.records] == ["advisory"]
