"""Which requests are kept for the request explorer, and that its caps hold over all workers of a gateway."""

import time
from collections import Counter
from types import SimpleNamespace

import pytest

from lucid_gateway.kernel.record import Claim, RequestRecord
from lucid_gateway.policy.errors import NotFound
from lucid_gateway.server import kept_requests as module
from lucid_gateway.server.kept_requests import MAX_BUFFERED, KeptRequests

OTHER_WORKERS = range(1, 5)  # rows of the shared memory that no test server of this process uses


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that stands still, in a second of its own for each test."""
    for row in OTHER_WORKERS:
        start = row * module.COLUMNS
        for cell in range(start, start + module.COLUMNS):
            module.cells[cell] = 0
    clock = SimpleNamespace(now=2_000_000_000.0)
    times = SimpleNamespace(time=lambda: clock.now, perf_counter=time.perf_counter)
    monkeypatch.setattr(module, "time", times)
    return clock


@pytest.fixture(autouse=True)
def left_out(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many requests are left out, by reason."""
    counted: Counter[str] = Counter()

    def count(group: str, name: str) -> None:
        assert group == "explorer_left_out"
        counted[name] += 1

    monkeypatch.setattr(module, "count", count)
    return counted


def worker(row: int = 1, *, sample_percent: float = 0.0, enabled: bool = True) -> KeptRequests:
    return KeptRequests(row, enabled=enabled, sample_percent=sample_percent)


def refused(address: str = "192.0.2.1", user_id: str = "") -> RequestRecord:
    record = RequestRecord(client_address=address)
    record.claim = Claim("token", "jti", user_id) if user_id else None
    record.refused(NotFound())
    return record


def answered() -> RequestRecord:
    return RequestRecord(client_address="192.0.2.1")


def test_a_refused_request_is_kept(clock: SimpleNamespace) -> None:
    kept, record = worker(), refused()

    kept.consider(record, 404, 17)

    (found,) = kept.drain()
    assert (found.record, found.status, found.size, found.ended_at) == (record, 404, 17, clock.now)
    assert kept.drain() == []


@pytest.mark.parametrize(("status", "cut"), [(502, None), (404, None), (200, "client_left")])
def test_a_failure_without_a_reason_of_the_gateway_is_kept(clock: SimpleNamespace, status: int, cut: str) -> None:
    kept = worker()

    kept.consider(answered(), status, cut=cut)

    assert [found.cut for found in kept.drain()] == [cut]


@pytest.mark.parametrize(("percent", "kept_of_ten"), [(0.0, 0), (100.0, 10)])
def test_the_sample_is_a_share_of_the_answered_requests(
    clock: SimpleNamespace, left_out: Counter[str], percent: float, kept_of_ten: int
) -> None:
    kept = worker(sample_percent=percent)

    for _ in range(10):
        kept.consider(answered(), 200)

    assert len(kept.drain()) == kept_of_ten
    assert not left_out


def test_nothing_is_kept_while_the_explorer_is_off(clock: SimpleNamespace) -> None:
    kept = worker(sample_percent=100, enabled=False)

    kept.consider(refused(), 404)

    assert kept.drain() == []


def test_of_one_address_twenty_a_second_are_kept_over_all_workers(
    clock: SimpleNamespace, left_out: Counter[str]
) -> None:
    workers = [worker(row) for row in OTHER_WORKERS]

    for number in range(80):
        workers[number % len(workers)].consider(refused(), 404)

    assert sum(len(kept.buffer) for kept in workers) == 20
    assert left_out == {"caller_cap": 60}

    clock.now += 1
    workers[0].consider(refused(), 404)
    assert sum(len(kept.buffer) for kept in workers) == 21


def test_of_one_user_twenty_a_second_are_kept_from_any_address(clock: SimpleNamespace) -> None:
    kept = worker()

    for number in range(50):
        kept.consider(refused(f"192.0.2.{number}", user_id="a-user"), 404)

    assert len(kept.drain()) == 20


def test_of_a_gateway_two_hundred_a_second_are_kept_over_all_workers(
    clock: SimpleNamespace, left_out: Counter[str]
) -> None:
    workers = [worker(row) for row in OTHER_WORKERS]

    for number in range(1_000):
        workers[number % len(workers)].consider(refused(f"10.0.{number // 250}.{number % 250}"), 404)

    assert sum(len(kept.buffer) for kept in workers) == 200
    assert left_out.total() == 800
    assert left_out["gateway_cap"] > 750  # addresses may share a column by chance


def test_a_full_buffer_leaves_requests_out(clock: SimpleNamespace, left_out: Counter[str]) -> None:
    kept = worker()

    for number in range(MAX_BUFFERED + 10):
        clock.now += 1
        kept.consider(refused(f"10.1.{number // 250}.{number % 250}"), 404)

    assert len(kept.buffer) == MAX_BUFFERED
    assert left_out == {"buffer_full": 10}
