"""The strip of health names only what is not well, and needs neither Redis nor the database to say so."""

import time
from typing import Any

import pytest
from pytest_django import Settings

from accounts.tokens.keyring import keyring_cache
from lucid_gateway.console import health_strip
from lucid_gateway.console.health_strip import Item, clusters_of, gateways, items, mail
from lucid_gateway.console.tests.test_alarms import counted, instance
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.redis.access import Outage, breaker
from proxy.operators.overview import ClusterView


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has just read the database and computed the strip."""
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() + 3_600)
    monkeypatch.setattr(health_strip.strip, "computed_at", time.monotonic() + 60)
    monkeypatch.setattr(health_strip.strip, "value", (Item("2 gateways"), Item("Mail")))


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

    item = gateways(now)
    assert (item.name, item.tone, item.words) == ("1 gateway", "warn", "1 silent")


def test_mails_that_were_not_sent_are_named(db: None, settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"EMAIL_HOST": "mail.example.org"})
    counted(mail={"failed": 2})

    assert mail(time.time()).words == "2 not sent"
