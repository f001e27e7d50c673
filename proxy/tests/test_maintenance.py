"""Closures in a worker's memory: they start and end by the clock, without a query."""

import math
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.errors import ClusterInMaintenance, NotFound
from proxy.choosing.closures import (
    closures_cache,
    end_of,
    is_closed,
    is_expected_down,
    is_in_maintenance,
    merged,
    refuse_if_closed,
)
from proxy.clusters import Instance
from proxy.models import Maintenance
from proxy.operators.closing import close_cluster, end_maintenance, open_cluster
from testing.parallel import in_parallel
from testing.redis_monitor import watched_redis
from testing.waiting import wait_until

CORE = "blockchain_core"
Twins = tuple[Instance, Instance]


def close(cluster: str = CORE, **fields: Any) -> Maintenance:
    return close_cluster(**{"cluster": cluster, "kind": "drain", "reason": "an upgrade", "by": "operator"} | fields)


def in_seconds(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def refusal(cluster: str = CORE) -> ClusterInMaintenance | None:
    """Return the error for a request to the cluster, or None if it is not refused."""
    try:
        refuse_if_closed(cluster)
    except ClusterInMaintenance as error:
        return error
    return None


def retry_after(cluster: str = CORE) -> int:
    error = refusal(cluster)
    assert error is not None
    return int(error.headers["Retry-After"])


# Whole clusters


def test_without_maintenance_all_instances_are_open(db: None, twins: Twins) -> None:
    closures_cache.load()

    assert refusal() is None
    assert not any(is_closed(CORE, one) or is_in_maintenance(CORE, one) for one in twins)
    assert refusal("nobody") is None


def test_only_the_closed_cluster_is_refused(db: None, twins: Twins) -> None:
    close(ends_at=in_seconds(100))

    error = refusal()
    assert error is not None
    assert (error.code, error.status) == ("LUCID_ERR_5009", 503)
    assert all(is_closed(CORE, one) for one in twins)
    assert refusal("tron_payment") is None


def test_retry_after_is_the_remaining_time_rounded_up(db: None, twins: Twins) -> None:
    row = close(ends_at=in_seconds(100.5))

    error = refusal()
    assert error is not None
    left = (row.ends_at - timezone.now()).total_seconds() if row.ends_at else 0
    assert left <= int(error.headers["Retry-After"]) < left + 1.1
    assert error.details["cluster"] == CORE
    until = datetime.fromisoformat(error.details["until"])
    assert row.ends_at is not None
    assert abs((until - row.ends_at).total_seconds()) < 0.002  # MongoDB keeps milliseconds


def test_without_an_end_retry_after_is_a_minute(db: None, twins: Twins) -> None:
    close()

    error = refusal()
    assert error is not None
    assert (error.headers["Retry-After"], error.details) == ("60", {"cluster": CORE, "until": None})


def test_the_last_end_of_overlapping_rows_counts(db: None, twins: Twins) -> None:
    close(ends_at=in_seconds(50))
    close(ends_at=in_seconds(200), starts_at=in_seconds(40))
    close(ends_at=in_seconds(900), starts_at=in_seconds(300))

    assert 195 < retry_after() <= 200
    close()
    assert retry_after() == 60


def test_a_window_starts_and_ends_without_a_database_read(db: None, twins: Twins) -> None:
    close(starts_at=in_seconds(0.3), ends_at=in_seconds(0.6))
    held = closures_cache.current
    assert refusal() is None

    wait_until(lambda: refusal() is not None, 2)
    assert retry_after() == 1
    wait_until(lambda: refusal() is None, 2)
    assert closures_cache.current is held


# Instances


def test_a_closed_instance_leaves_the_others_open(db: None, twins: Twins) -> None:
    close(instance=twins[0].url)

    assert [is_closed(CORE, one) for one in twins] == [True, False]
    assert refusal() is None


def test_with_all_instances_closed_the_first_end_counts(db: None, twins: Twins) -> None:
    close(instance=twins[0].url)
    close(instance=twins[1].url, ends_at=in_seconds(30))

    assert 25 < retry_after() <= 30


def test_an_instance_that_opens_later_does_not_extend_retry_after(db: None, twins: Twins) -> None:
    close(ends_at=in_seconds(30))
    close(instance=twins[0].url, ends_at=in_seconds(90))

    assert 25 < retry_after() <= 30


@pytest.mark.parametrize("written", ["http://two.test", "http://two.test:80", "http://Two.Test/", " http://two.test"])
def test_an_instance_is_found_in_any_spelling(db: None, twins: Twins, written: str) -> None:
    assert close(instance=written).instance == "http://two.test"
    assert [is_closed(CORE, one) for one in twins] == [False, True]


def test_a_row_of_a_removed_instance_closes_nothing(db: None, twins: Twins) -> None:
    for cluster in (CORE, "gone"):
        Maintenance.objects.create(cluster=cluster, instance="http://gone.test", kind="drain", reason="x")
    closures_cache.load()

    assert not any(is_closed(CORE, one) for one in twins)
    assert (refusal(), refusal("gone")) == (None, None)


# Maintenance and drain


def test_only_maintenance_means_expected_down(db: None, twins: Twins) -> None:
    close(kind="drain")
    assert not is_expected_down(CORE)

    close(kind="maintenance", instance=twins[0].url)
    assert [is_in_maintenance(CORE, one) for one in twins] == [True, False]
    assert not is_expected_down(CORE)

    close(kind="maintenance", instance=twins[1].url)
    assert is_expected_down(CORE)


# Cost


def test_looking_up_closures_needs_neither_database_nor_redis(
    db: None, twins: Twins, django_assert_num_queries: Any
) -> None:
    close(instance=twins[0].url)

    with django_assert_num_queries(0), watched_redis() as commands:
        for _ in range(100):
            refusal()
            is_closed(CORE, twins[0])

    assert commands == []


# Windows


starts = st.integers(0, 20)
windows = st.lists(st.tuples(starts, starts).map(lambda pair: (float(min(pair)), float(max(pair)))), max_size=6)


@given(windows=windows, now=starts)
def test_merged_windows_cover_the_same_times(windows: list[tuple[float, float]], now: int) -> None:
    held = any(start <= now < end for start, end in windows)

    end = end_of(merged(windows), now)
    assert (end is not None) == held
    if end is not None:
        assert not any(start <= end < other for start, other in windows)


def test_a_window_without_an_end_includes_all_later_ones() -> None:
    assert merged([(5, 6), (0, math.inf), (9, 10)]) == ((0, math.inf),)


# Opening, history and audit


def test_opening_ends_current_and_scheduled_maintenance(db: None, twins: Twins) -> None:
    close()
    close(starts_at=in_seconds(500))
    kept = close(instance=twins[0].url)

    assert open_cluster(cluster=CORE, by="operator") == 2
    assert refusal() is None
    assert list(Maintenance.objects.not_over()) == [kept]


def test_opening_an_open_cluster_is_not_found(db: None, twins: Twins) -> None:
    close(instance=twins[0].url)
    with pytest.raises(NotFound):
        open_cluster(cluster=CORE, by="operator")
    with pytest.raises(NotFound):
        open_cluster(cluster=CORE, instance=twins[1].url, by="operator")


def test_ended_maintenance_stays_as_history(db: None, twins: Twins, owner: User) -> None:
    row = close(ends_at=in_seconds(500))
    open_cluster(cluster=CORE, by=owner)

    row.refresh_from_db()
    assert (row.ended_by, row.state) == (owner.email, "over")
    assert row.ended_at is not None
    assert abs(row.ended_at - timezone.now()) < timedelta(seconds=5)


def test_concurrent_ends_of_one_row_succeed_once(transactional_db: None) -> None:
    row = close()

    ended = in_parallel(6, lambda _: end_maintenance(row, by="operator"))

    assert sorted(ended) == [False] * 5 + [True]
    assert AuditEvent.objects.filter(type="cluster.opened").count() == 1


def test_maintenance_that_has_expired_is_not_ended_again(db: None) -> None:
    row = Maintenance.objects.create(cluster=CORE, kind="drain", starts_at=in_seconds(-9), ends_at=in_seconds(-1))

    assert not end_maintenance(row, by="operator")
    assert row.state == "over"


def test_actor_target_reason_and_end_are_audited(db: None, twins: Twins, owner: User) -> None:
    row = close(instance=twins[0].url, by=owner, kind="maintenance", ends_at=in_seconds(60))
    end_maintenance(row, by=owner)
    closed, opened = AuditEvent.objects.filter(type__startswith="cluster.").order_by("created_at")

    assert (closed.type, closed.actor, closed.subject) == ("cluster.closed", str(owner.pk), CORE)
    details = {"instance": "http://one.test:8084", "closure": "maintenance", "reason": "an upgrade"}
    assert closed.details.items() >= details.items()
    assert datetime.fromisoformat(closed.details["until"]) == row.ends_at
    assert (opened.type, opened.actor, opened.subject) == ("cluster.opened", str(owner.pk), CORE)
    assert opened.details.pop("changes") == {"service": ["maintenance", "in service"]}
    assert opened.details == details | {"before_its_start": False}
    assert closed.details["changes"] == {"service": ["in service", "maintenance"]}


BAD: list[dict[str, Any]] = [
    {"kind": "evil"}, {"reason": ""}, {"reason": "x" * 201}, {"instance": "http://three.test"}, {"instance": "http://["},
    {"ends_at": in_seconds(-1)}, {"starts_at": in_seconds(1000), "ends_at": in_seconds(900)},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD, ids="-".join)
def test_invalid_maintenance_is_refused(db: None, twins: Twins, fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        close(**fields)
    assert not Maintenance.objects.exists()


def test_a_cluster_that_is_not_configured_cannot_be_closed(db: None) -> None:
    with pytest.raises(NotFound):
        close("rdp_services")


# Errors for callers


def test_a_request_to_a_closed_cluster_gets_503(api: ApiClient, tokens: TokenPair) -> None:
    close("tron_payment", ends_at=in_seconds(100))

    response = api.send("post", "/wallets", {}, token=tokens.access)

    assert (response.status_code, error_code(response)) == (503, "5009")
    assert 95 < int(response["Retry-After"]) <= 100
    assert set(response.json()["error"]["details"]) == {"cluster", "until"}
    assert error_code(api.send("get", "/chain/info", token=tokens.access)) == "5005"  # open, but without a listener


def test_unauthorized_callers_do_not_learn_of_maintenance(api: ApiClient, db: None) -> None:
    close("tron_payment")

    assert error_code(api.send("get", "/wallets")) == "2001"
