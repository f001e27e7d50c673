"""What the gateway keeps of its edge's reports."""

import time
from typing import Any

import pytest
from redis import Redis

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.policy import keys
from proxy.edge import state
from proxy.edge.state import CURRENT_SECONDS, KEPT_SECONDS, EdgeState, LatestReports, read_edges

NOW = 1_800_000_000.0


def report(worker: int, *, ago: float = 0, age: float | None = 0.5, requests: int = 0) -> dict[str, Any]:
    rows = [{"times": {"3 2": requests - 1, "4": 1}}] if requests else []
    return {"worker": worker, "at": NOW - ago, "rows": rows} | ({} if age is None else {"age": age})


def state_after(*reports: dict[str, Any]) -> EdgeState | None:
    latest = LatestReports()
    for one in reports:
        latest.note(one)
    return latest.state()


def test_without_reports_nothing_is_known(empty_redis: Redis) -> None:
    latest = LatestReports()
    latest.write()

    assert latest.state() is None
    assert empty_redis.keys() == []


def test_the_state_sums_the_last_reports_of_all_workers() -> None:
    found = state_after(report(1, ago=1, requests=100), report(1, requests=7), report(2, age=3.5, requests=5))

    assert found == EdgeState(gateway_name(), NOW, snapshot_age=3.5, per_second=12)


def test_a_worker_that_has_ended_is_left_out() -> None:
    found = state_after(report(1, ago=CURRENT_SECONDS + 1, age=60, requests=9), report(2))

    assert found == EdgeState(gateway_name(), NOW, snapshot_age=0.5, per_second=0)


def test_a_worker_may_have_no_snapshot_yet() -> None:
    found = state_after(report(1, age=None))

    assert found is not None
    assert (found.snapshot_age, found.has_old_snapshot) == (None, False)


@pytest.mark.parametrize("broken", [{}, {"worker": "x", "at": NOW}, {"worker": 1}, {"worker": 1, "at": None}])
def test_a_report_of_another_release_leaves_the_state(broken: dict[str, Any]) -> None:
    latest = LatestReports()
    with pytest.raises((KeyError, TypeError, ValueError)):  # for which `process_reports` looks
        latest.note(broken)

    assert latest.state() is None


@pytest.mark.parametrize(("ago", "silent"), [(9, False), (11, True)])
def test_an_edge_is_silent_after_ten_seconds(ago: float, silent: bool) -> None:
    found = state_after(report(1))

    assert found is not None
    assert found.is_silent(NOW + ago) == silent


def test_the_state_of_each_gateway_is_read_for_ten_minutes(
    empty_redis: Redis, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EDGE_SECRET": "s" * 32})
    latest = LatestReports()
    latest.note(report(1))
    latest.write()
    monkeypatch.setattr(time, "time", lambda: NOW + 60)

    assert read_edges([gateway_name(), "another:8080"]) == [latest.state()]
    assert 0 < empty_redis.ttl(keys.edge_state(gateway_name())) <= KEPT_SECONDS  # type: ignore[operator]
    monkeypatch.setattr(time, "time", lambda: NOW + KEPT_SECONDS + 1)  # written again by a gateway that lags behind
    assert read_edges([gateway_name()]) == []


def test_without_an_edge_redis_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "redis_call", None)

    assert read_edges(["host:8080"]) == []
