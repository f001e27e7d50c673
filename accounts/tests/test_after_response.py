"""Work after the answer. test_timing.py shows that logins defer what only an existing account costs."""

import logging
from collections.abc import Iterator

import gevent
import pytest
from django.db import DatabaseError

from accounts.models import User
from lucid_gateway.kernel import after_response


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that takes itself for a gevent worker."""
    monkeypatch.setattr(after_response, "is_module_patched", lambda _: True)
    monkeypatch.setattr(after_response, "DELAY_SECONDS", 0.01)
    monkeypatch.setattr(after_response.connection, "close", lambda: None)
    yield
    gevent.wait()


def test_outside_of_workers_the_work_is_done_at_once(owner: User) -> None:
    after_response.after_response(lambda: User.objects.update(first_name="done"))

    assert User.objects.get().first_name == "done"


def test_in_a_worker_the_work_is_done_after_the_answer(worker: None) -> None:
    done: list[int] = []
    after_response.after_response(lambda: done.append(1))
    assert done == []
    gevent.wait()

    assert done == [1]


def test_a_failure_is_logged_without_its_text(worker: None, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise DatabaseError("secret")

    after_response.after_response(fail)
    with caplog.at_level(logging.ERROR):
        gevent.wait()

    assert [record.getMessage() for record in caplog.records] == ["work after an answer failed"]
    assert "secret" not in caplog.text
