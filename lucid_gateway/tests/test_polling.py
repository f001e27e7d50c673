"""A worker's reads in the background: once before it serves requests, then again and again."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.db import DatabaseError

from lucid_gateway.kernel.loops import poll
from testing.waiting import wait_until


def once(calls: list[str], name: str, seconds: float = 0) -> Callable[[], None]:
    """Return a function that notes its first call and blocks in its second, so that the thread does nothing more."""

    def load() -> None:
        if name in calls:
            threading.Event().wait()
        time.sleep(seconds)
        calls.append(name)

    return load


def test_everything_is_read_once_before_a_worker_serves() -> None:
    calls: list[str] = []
    poll(once(calls, "first", 0.1), once(calls, "second", 0.1))

    assert calls == ["first", "second"]


@pytest.mark.quiet
def test_everything_is_read_again_every_two_seconds() -> None:
    calls: list[float] = []

    def load() -> None:
        if len(calls) == 2:
            threading.Event().wait()
        calls.append(time.monotonic())

    poll(load)
    wait_until(lambda: len(calls) == 2, 4)
    assert 1.9 < calls[1] - calls[0] < 2.0 + 0.5


def test_a_failed_read_does_not_prevent_the_others() -> None:
    calls: list[str] = []

    def fail() -> None:
        if "second" in calls:
            threading.Event().wait()
        raise OSError

    poll(fail, once(calls, "second"))

    assert calls == ["second"]


def test_a_connection_that_cannot_be_closed_does_not_end_the_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def load() -> None:
        if len(calls) == 3:
            threading.Event().wait()
        calls.append(1)

    def close() -> None:
        raise DatabaseError

    monkeypatch.setattr("lucid_gateway.kernel.loops.connection", SimpleNamespace(close=close))
    poll(load, seconds=0.0)
    wait_until(lambda: len(calls) == 3, 2)


@pytest.mark.quiet
def test_a_read_that_hangs_delays_a_worker_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lucid_gateway.kernel.loops.FIRST_SECONDS", 0.5)
    started = time.monotonic()
    poll(once([], "first", 20))

    assert 0.5 <= time.monotonic() - started < 10
