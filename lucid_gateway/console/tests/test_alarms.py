"""The alarms: each kind begins and ends with its cause, names it, and says what to do."""

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import SigningKey, User
from accounts.tokens.keyring import keyring_cache
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.console import alarms
from lucid_gateway.console.alarms import KINDS, LOCKOUT_SURGE, Alarm, alarms_of, find_alarms
from lucid_gateway.figures import reading
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import Outage, breaker
from proxy.operators.overview import ClusterView, InstanceView
from ratelimit.models import AddressRule


@pytest.fixture(autouse=True)
def current(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads the database, and remembers no figures and no advice."""
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() + 3_600)
    monkeypatch.setattr(reading, "history", reading.History())
    monkeypatch.setattr(advisories, "_texts", {})


def only_alarm() -> Alarm:
    [alarm] = find_alarms()
    return alarm


def counted(age: int = 20, **groups: dict[str, int]) -> None:
    """Write the rows of a gateway that counted this lately."""
    now = int(time.time())
    for seconds in (10, 60, 600, 3600):
        start = (now - age) // seconds * seconds
        Sample(f"life {seconds} {start}", "host:8080", seconds, start, **columns(groups)).save()


def reuse(user: User, **ago: float) -> None:
    AuditEvent.objects.create(type="token.reused", subject=str(user.pk), created_at=timezone.now() - timedelta(**ago))


def instance(number: int, **fields: Any) -> InstanceView:
    known: dict[str, Any] = {
        "url": f"http://10.0.0.{number}:80", "state": "open", "closed_for": None, "workers": 2, "in_flight": 0,
        "breaker": "closed", "health": "healthy", "requests": 1, "failures": 0,
    }  # fmt: skip
    return InstanceView(**{name: known.get(name) for name in InstanceView.__dataclass_fields__} | fields)


def test_nothing_is_open_on_a_quiet_gateway(db: None) -> None:
    counted()

    assert find_alarms() == ()


def test_a_reused_refresh_token_names_its_user_and_leads_to_the_user(db: None, owner: User, admin: User) -> None:
    for user, ago in ((owner, {"hours": 23}), (owner, {"hours": 1}), (admin, {"hours": 25})):
        reuse(user, **ago)

    alarm = only_alarm()
    assert (alarm.kind, alarm.severity) == ("token_reuse", "bad")
    assert alarm.title == f"A refresh token of {owner.email} was used twice, 2 times"
    assert alarm.since is not None
    assert alarm.remedy is not None
    assert str(owner.pk) in alarm.remedy.url
    assert timezone.now() - alarm.since < timedelta(hours=2)


def test_many_reused_tokens_are_a_few_alarms(db: None) -> None:
    for number in range(9):
        reuse(User.objects.create(email=f"u{number}@example.org", username=f"u{number}"), hours=1)

    found = find_alarms()
    assert len(found) == alarms.MOST_USERS + 1
    assert found[-1].title == "Refresh tokens of 4 more users were used twice"


def test_an_instance_that_is_down_is_an_alarm_and_the_cluster_serves() -> None:
    down = instance(2, breaker="open")
    [alarm] = alarms_of(ClusterView("core", "Core", "open", (instance(1), down), ()))

    assert (alarm.kind, alarm.severity, alarm.title) == ("instance", "warn", "core: http://10.0.0.2:80 is down")
    assert alarm.sentence == "Its circuit breaker is open. Callers are served by another instance."


def test_a_cluster_without_any_instance_is_one_bad_alarm() -> None:
    down = [instance(number, health="unhealthy") for number in (1, 2)]
    [alarm] = alarms_of(ClusterView("core", "Core", "open", tuple(down), ()))

    assert (alarm.kind, alarm.severity, alarm.title) == ("cluster", "bad", "core is down")


def test_maintenance_is_no_alarm() -> None:
    closed = instance(1, state="closed", closed_for="maintenance", health="unhealthy")

    assert list(alarms_of(ClusterView("core", "Core", "closed", (closed,), ()))) == []


@pytest.mark.parametrize(("begun", "is_open"), [(LOCKOUT_SURGE - 1, False), (LOCKOUT_SURGE, True)])
def test_many_lockouts_in_ten_minutes_are_an_alarm(db: None, begun: int, is_open: bool) -> None:
    counted(events={"lockout.started": begun, "login.failed": 300})

    found = find_alarms()
    assert bool(found) == is_open
    assert not is_open or (found[0].kind, found[0].title) == ("lockouts", "10 lockouts began in the last ten minutes")


def test_networks_that_the_gateway_punished_are_named_and_those_of_operators_are_not(db: None) -> None:
    soon, past = timezone.now() + timedelta(hours=1), timezone.now() - timedelta(seconds=1)
    for network, kind, by, ends in (
        ("192.0.2.1", "halved", "", soon), ("192.0.2.2", "halved", "", soon), ("192.0.2.3", "blocked", "", soon),
        ("192.0.2.4", "blocked", "ada@example.org", soon), ("192.0.2.5", "halved", "", past),
    ):  # fmt: skip
        AddressRule.objects.create(network=network, kind=kind, created_by=by, expires_at=ends)

    titles = [alarm.title for alarm in find_alarms()]
    assert titles == ["192.0.2.3 is blocked", "192.0.2.2, 192.0.2.1 have half their limits"]


def test_more_networks_than_fit_are_counted() -> None:
    assert alarms.named(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


@pytest.mark.parametrize(("days", "is_open"), [(89, False), (91, True)])
def test_an_old_signing_key_is_an_alarm(db: None, days: int, is_open: bool) -> None:
    began = timezone.now() - timedelta(days=days)
    SigningKey.objects.create(kid="k", algorithm="HS256", secret="x", state="active", activated_at=began)

    assert [alarm.title for alarm in find_alarms()] == (["The signing key k is 91 days old"] if is_open else [])


def test_a_lost_redis_is_an_alarm_and_leaves_the_others(db: None, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    reuse(owner, hours=1)
    monkeypatch.setattr(breaker, "outage", Outage())

    assert [alarm.kind for alarm in find_alarms()] == ["redis", "token_reuse"]


def test_a_database_that_is_not_read_for_a_while_is_an_alarm(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() - 60)

    alarm = only_alarm()
    assert (alarm.kind, alarm.severity, alarm.title) == ("database", "bad", "The database is unavailable")


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_a_source_that_fails_leaves_the_others(db: None, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise DatabaseError("down")

    advisories.set("a subject", "Do this.")
    failing = [alarms.Kind(row.name, row.text, fail if row.name == kind else row.find) for row in KINDS]
    monkeypatch.setattr(alarms, "KINDS", failing)

    kinds = {alarm.kind for alarm in find_alarms()}
    assert kinds == {"database"} | ({"advisory"} if kind != "advisories" else set())


def test_a_silent_gateway_is_an_alarm(db: None) -> None:
    counted(age=200)

    assert only_alarm().title == "The gateway host:8080 is silent"


def test_mails_that_were_not_sent_are_an_alarm(db: None) -> None:
    counted(mail={"failed": 3, "sent": 9})

    assert only_alarm().title == "3 mails could not be sent in the last ten minutes"


def test_advice_is_shown_with_its_text(db: None) -> None:
    advisories.set("clock of Redis", "Synchronise the clocks.")

    assert only_alarm().sentence == "Synchronise the clocks."


def test_bad_alarms_come_first(db: None, owner: User) -> None:
    advisories.set("a subject", "Do this.")
    reuse(owner, hours=1)

    assert [alarm.severity for alarm in find_alarms()] == ["bad", "warn"]


def test_the_number_of_queries_is_constant(db: None) -> None:
    numbers = []
    for count in (1, 20):
        for number in range(count):
            user = User.objects.create(email=f"{count}.{number}@example.org", username=f"u{count}.{number}")
            reuse(user, hours=1)
            AddressRule.objects.create(
                network=f"10.{count}.{number}.0", kind="halved", expires_at=timezone.now() + timedelta(hours=1)
            )
        reading.history.known.clear()
        with CaptureQueriesContext(connection) as queries:
            find_alarms()
        numbers.append(len(queries))
    assert numbers[0] == numbers[1] <= 9
