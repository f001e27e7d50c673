"""The strip of health names what is not well, the banner what is down: without asking Redis or the database."""

import time
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import User
from accounts.tests.operators import browser, signed_in
from accounts.tokens.keyring import keyring_cache
from lucid_gateway.console import health_strip
from lucid_gateway.console.alarms import edges as alarms_of_edges
from lucid_gateway.console.alarms.alarm import Alarm
from lucid_gateway.console.health_details import edge_details
from lucid_gateway.console.health_strip import Health, Item, clusters_of, details, edges, gateways, items, mail, outages
from lucid_gateway.console.remembered import STALE_SECONDS
from lucid_gateway.console.tests.test_alarms import counted, edge_reported, instance
from lucid_gateway.figures.gateways import read_gateways_and_workers
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.redis.access import Outage, RedisUnavailable, breaker
from proxy.edge.state import EdgeState
from proxy.operators.overview import ClusterView


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has just read the database and computed the strip."""
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() + 3_600)
    monkeypatch.setattr(health_strip.health, "computed_at", time.monotonic() + 60)
    monkeypatch.setattr(health_strip.health, "value", Health((Item("2 gateways"), Item("Mail"))))


def tones() -> dict[str, str]:
    return {item.name: item.tone for item in items()}


def view(name: str, *instances: Any, state: str = "open") -> ClusterView:
    return ClusterView(name, name, state, instances, ())


def test_all_is_well() -> None:
    assert tones() == {"2 gateways": "ok", "Redis": "ok", "Database": "ok", "Mail": "ok"}


def test_a_lost_redis_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "outage", Outage())

    assert tones()["Redis"] == "bad"


def test_a_database_that_is_not_read_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() - 60)

    assert tones()["Database"] == "bad"


def test_only_clusters_that_are_not_well_are_named() -> None:
    down = instance(2, breaker="open")
    views = [view("core", instance(1), down), view("a", instance(3)), view("b", instance(4)), view("c", down)]

    assert [(item.name, item.tone, item.words) for item in clusters_of(views, known=True)] == [
        ("core", "warn", "1 of 2"), ("c", "bad", "0 of 1"), ("2 other clusters", "ok", ""),
    ]  # fmt: skip


def test_a_cluster_out_of_service_says_so() -> None:
    closed = instance(1, state="closed", closed_for="maintenance", health="unhealthy")
    [item] = clusters_of([view("core", closed, state="closed")], known=True)

    assert item.words == "out of service"


def test_without_redis_the_clusters_are_not_known() -> None:
    [item] = clusters_of([view("core", instance(1)), view("a", instance(2))], known=False)

    assert (item.name, item.tone, item.words) == ("2 clusters", "warn", "not known without Redis")


def test_a_silent_gateway_is_named(db: None) -> None:
    now = time.time()
    for name, age in (("a", 15), ("b", 300)):
        Sample(name, name, 10, int(now) - age, **columns({})).save()

    item = gateways(read_gateways_and_workers(now), now)
    assert (item.name, item.tone, item.words) == ("1 gateway", "warn", "alive, 1 silent")


def test_a_silent_worker_is_counted(db: None) -> None:
    counted(workers={"71": 0, "72": 60})
    now = time.time()

    item = gateways(read_gateways_and_workers(now), now)
    assert (item.name, item.tone, item.words) == ("1 gateway", "warn", "with 1 silent worker")


def test_the_overview_says_how_each_gateway_and_each_cluster_is(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(workers={"71": 0, "72": 60})
    counted(life="other:8080", workers={"71": 0})
    counted(age=300, life="stopped:8080")
    views = [view("core", instance(1), instance(2, breaker="open")), view("chain", instance(3))]
    monkeypatch.setattr(health_strip, "clusters", lambda: (views, True))
    monkeypatch.setattr(health_strip.health, "value", health_strip.compute())

    assert [(item.name, item.tone, item.words) for item in details()] == [
        ("host:8080", "warn", "1 worker, 1 silent"), ("other:8080", "ok", "1 worker"),
        ("stopped:8080", "bad", "silent for 5 min"), ("Redis", "ok", "answers"), ("Database", "ok", "answers"),
        ("Mail", "ok", "goes to the log"), ("core", "warn", "1 of 2 instances"), ("chain", "ok", "1 of 1 instance"),
    ]  # fmt: skip


def edge(*, ago: float = 0, age: float | None = 0.5) -> EdgeState:
    return EdgeState("host:8080", 1000.0 - ago, age, 1234)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], []),
        ([edge()], [("1 edge", "ok", "")]),
        ([edge(ago=11), edge(age=11), edge()], [("3 edges", "warn", "1 silent, 1 with an old snapshot")]),
    ],
)
def test_the_strip_counts_edges_that_are_not_well(found: list[EdgeState], expected: list[Any]) -> None:
    assert [(item.name, item.tone, item.words) for item in edges(found, 1000.0)] == expected


@pytest.mark.parametrize(
    ("found", "tone", "words"),
    [
        (edge(), "ok", "1,234/s, snapshot 0.5 s old"),
        (edge(age=None), "ok", "1,234/s, no snapshot yet"),
        (edge(age=12), "warn", "1,234/s, snapshot 12.0 s old"),
        (edge(ago=180), "warn", "silent for 3 min"),
    ],
)
def test_the_overview_says_how_an_edge_is(found: EdgeState, tone: str, words: str) -> None:
    [item] = edge_details([found], 1000.0)

    assert (item.name, item.tone, item.words) == ("Edge of host:8080", tone, words)


def test_the_strip_and_the_overview_have_the_edge(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted()
    edge_reported(monkeypatch)
    monkeypatch.setattr(health_strip.health, "value", health_strip.compute())

    assert "1 edge" in tones()
    assert [item.name for item in details()][:2] == ["host:8080", "Edge of host:8080"]


def test_without_redis_the_edges_are_not_known(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(names: Any) -> Any:
        raise RedisUnavailable

    counted()
    monkeypatch.setattr(alarms_of_edges, "read_edges", fail)

    assert health_strip.compute().edges == ()


def test_mails_that_were_not_sent_are_named(db: None, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_HOST": "mail.example.org"})
    counted(mail={"failed": 2})

    assert mail(time.time()).words == "2 not sent"


def banners() -> list[str]:
    return [alarm.title for alarm in outages()]


def test_nothing_is_down() -> None:
    assert banners() == []


def test_the_banner_says_that_redis_and_the_database_are_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "outage", Outage())
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() - 60)

    assert banners() == ["Redis is unavailable", "The database is unavailable"]


def test_the_banner_names_clusters_that_are_down_and_mails_that_were_not_sent(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = instance(2, breaker="open")
    views = [view("core", instance(1), down), view("chain", down)]
    monkeypatch.setattr(health_strip, "clusters", lambda: (views, True))
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_HOST": "mail.example.org"})
    counted(mail={"failed": 2})

    assert [alarm.title for alarm in health_strip.compute().down] == [
        "chain is down", "2 mails could not be sent in the last ten minutes",
    ]  # fmt: skip


def test_what_is_long_out_of_date_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Alarm("cluster", "bad", "chain is down", "")
    monkeypatch.setattr(health_strip.health, "value", Health((Item("2 gateways"),), (lost,)))
    assert banners() == ["chain is down"]

    monkeypatch.setattr(health_strip.health, "get", lambda: health_strip.health.value)
    monkeypatch.setattr(health_strip.health, "computed_at", time.monotonic() - STALE_SECONDS - 1)
    assert banners() == []


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/nothing-here/", "/admin/second-factor/", "/admin/undo/"])
def test_a_page_says_what_is_down(path: str, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "outage", Outage())
    visitor = browser() if path == "/admin/login/" else signed_in(admin)

    assert "Redis is unavailable" in visitor.get(path).content.decode()


def test_visitors_are_told_what_is_down_but_no_details(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Alarm("cluster", "bad", "chain is down", "Last error: http://10.0.0.1 refused.")
    monkeypatch.setattr(health_strip.health, "value", Health((Item("2 gateways"),), (lost,)))
    shown = browser().get("/admin/login/").content.decode()

    assert "chain is down." in shown
    assert "10.0.0.1" not in shown


def test_the_overview_says_once_what_is_down(admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "outage", Outage())

    assert signed_in(admin).get("/admin/").content.decode().count("<b>Redis is unavailable</b>") == 1
