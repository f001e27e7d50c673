"""Values of every page are computed in the background, and no page waits for a store that hangs."""

import threading
import time
from collections.abc import Iterator

import pytest

from lucid_gateway.console import remembered
from lucid_gateway.console.remembered import PATIENCE_SECONDS, Remembered


@pytest.fixture
def hanging() -> Iterator[threading.Event]:
    """An event for which a computation waits; it happens when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_a_value_is_computed_once_for_many_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(remembered, "KEPT_SECONDS", 60.0)
    value = Remembered(lambda: calls.append(1) or len(calls), 0)

    assert [value.get(10) for _ in range(5)] == [1] * 5


def test_a_value_is_computed_again_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1, 9))
    monkeypatch.setattr(remembered, "KEPT_SECONDS", -1.0)
    value = Remembered(lambda: next(numbers), 0)

    assert [value.get(10) for _ in range(3)] == [1, 2, 3]


@pytest.mark.quiet
def test_a_page_waits_briefly_for_a_store_that_hangs_and_the_next_one_does_not(hanging: threading.Event) -> None:
    value = Remembered(lambda: hanging.wait(60) and "new", "old")

    started = time.monotonic()
    assert value.get() == "old"
    assert PATIENCE_SECONDS * 0.9 < time.monotonic() - started < PATIENCE_SECONDS + 2
    started = time.monotonic()
    assert value.get() == "old"
    assert time.monotonic() - started < PATIENCE_SECONDS


def test_a_failure_leaves_the_old_value(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "KEPT_SECONDS", -1.0)
    results = iter(["good"])
    value = Remembered(lambda: next(results), "missing")
    with caplog.at_level("WARNING"):
        assert [value.get(10) for _ in range(2)] == ["good", "good"]

    assert [entry.message for entry in caplog.records] == ["part of the console not computed"]
