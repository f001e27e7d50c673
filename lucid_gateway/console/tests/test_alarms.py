"""The alarms: each kind begins and ends with its cause, names it, and says what to do."""

import re
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
from lucid_gateway.console.alarms import edges, finding
from lucid_gateway.console.alarms.alarm import Alarm, Kind, named
from lucid_gateway.console.alarms.clusters import alarms_of
from lucid_gateway.console.alarms.finding import KINDS, find_alarms
from lucid_gateway.console.alarms.security import LOCKOUT_SURGE, MOST_USERS
from lucid_gateway.figures import reading
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.redis.access import Outage, breaker
from proxy.edge.state import EdgeState
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


def counted(age: int = 20, life: str = "host:8080", **groups: dict[str, int]) -> None:
    """Write the rows of a gateway with this name that counted this lately."""
    now = int(time.time())
    for seconds in (10, 60, 600, 3600):
        start = (now - age) // seconds * seconds
        Sample(f"{life} {seconds} {start}", life, seconds, start, **columns(groups)).save()


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
    assert alarm.title == f"2 refresh tokens of {owner.email} were used twice"
    assert alarm.since is not None
    assert alarm.remedy is not None
    assert str(owner.pk) in alarm.remedy.url
    assert timezone.now() - alarm.since < timedelta(hours=2)


def test_many_reused_tokens_are_a_few_alarms(db: None) -> None:
    for number in range(9):
        reuse(User.objects.create(email=f"u{number}@example.org", username=f"u{number}"), hours=1)

    found = find_alarms()
    assert len(found) == MOST_USERS + 1
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
    assert titles == [
        "The gateway has blocked 192.0.2.3", "The gateway has halved the limits of 192.0.2.2 and 192.0.2.1",
    ]  # fmt: skip


def test_more_networks_than_fit_are_counted() -> None:
    assert named(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert [named(["a"]), named(["a", "b"]), named(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (75, None), (77, "is due for rotation in 13 days"), (89, "is due for rotation in 1 day"),
        (90, "is due for rotation today"), (93, "was due for rotation 3 days ago"),
    ],
)  # fmt: skip
def test_an_alarm_says_before_a_signing_key_is_due_for_rotation(db: None, days: int, words: str | None) -> None:
    began = timezone.now() - timedelta(days=days)
    SigningKey.objects.create(kid="k", algorithm="HS256", secret="x", state="active", activated_at=began)
    SigningKey.objects.create(kid="old", algorithm="HS256", secret="x", state="retiring", activated_at=began)

    found = find_alarms()
    assert [alarm.title for alarm in found] == ([f"The signing key k {words}"] if words else [])
    assert [alarm.remedy.url for alarm in found if alarm.remedy] == len(found) * ["/admin/accounts/signingkey/"]


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
    failing = [Kind(row.name, row.text, fail if row.name == kind else row.find) for row in KINDS]
    monkeypatch.setattr(finding, "KINDS", failing)

    kinds = {alarm.kind for alarm in find_alarms()}
    assert kinds == {"database"} | ({"advisory"} if kind != "advisories" else set())


def test_a_silent_gateway_is_an_alarm(db: None) -> None:
    counted(age=200)

    assert only_alarm().title == "The gateway host:8080 is silent"


@pytest.mark.parametrize(
    ("workers", "title"),
    [
        ({"71": 0, "72": 2}, None),
        ({"71": 0, "72": 60}, "A worker of the gateway host:8080 is silent"),
        ({"71": 0, "72": 60, "73": 90}, "2 workers of the gateway host:8080 are silent"),
    ],
)
def test_a_worker_that_was_lost_is_an_alarm(db: None, workers: dict[str, int], title: str | None) -> None:
    counted(workers=workers)

    found = find_alarms()
    assert [alarm.title for alarm in found] == ([title] if title else [])
    assert all("1 other worker is alive" in alarm.sentence for alarm in found)
    assert all("(process 72" in alarm.sentence for alarm in found)


def edge_reported(monkeypatch: pytest.MonkeyPatch, *, ago: float = 0, age: float | None = 0.5) -> None:
    """Make the edge of the gateway `host:8080` one that reported that long ago."""
    reported = {"host:8080": EdgeState("host:8080", time.time() - ago, age, 1234)}
    monkeypatch.setattr(edges, "read_edges", lambda names: [reported[name] for name in names if name in reported])


@pytest.mark.parametrize(
    ("ago", "age", "title"),
    [
        (1, 2.0, None),
        (1, None, None),
        (1, 12.4, "The snapshot of the edge of the gateway host:8080 is 12 s old"),
        (12, 0.5, "The edge of the gateway host:8080 is silent"),
        (12, 60.0, "The edge of the gateway host:8080 is silent"),
    ],
)
@pytest.mark.usefixtures("db", "with_edge")
def test_an_edge_that_is_silent_or_has_an_old_snapshot_is_an_alarm(
    monkeypatch: pytest.MonkeyPatch, ago: float, age: float | None, title: str | None
) -> None:
    counted()
    edge_reported(monkeypatch, ago=ago, age=age)

    found = find_alarms()
    assert [alarm.title for alarm in found] == ([title] if title else [])
    assert all((alarm.kind, alarm.severity) == ("edge", "warn") for alarm in found)
    assert all(alarm.sentence.endswith(".") and "log" in alarm.sentence for alarm in found)


def test_the_edge_of_a_silent_gateway_is_no_alarm_of_its_own(
    db: None, with_edge: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(age=200)
    edge_reported(monkeypatch, ago=200)

    assert only_alarm().kind == "gateway"


def test_without_an_edge_none_is_missed(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted()
    edge_reported(monkeypatch, ago=200)

    assert find_alarms() == ()


def test_each_alarm_has_a_sentence_and_something_to_do(db: None, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(events={"lockout.started": LOCKOUT_SURGE}, mail={"failed": 1}, workers={"1": 90, "2": 0})
    counted(age=200, life="silent")
    reuse(owner, hours=1)
    for kind in ("halved", "blocked"):
        ends = timezone.now() + timedelta(hours=1)
        AddressRule.objects.create(network=f"192.0.2.{len(kind)}", kind=kind, expires_at=ends)
    SigningKey.objects.create(
        kid="k", algorithm="HS256", secret="x", state="active", activated_at=timezone.now() - timedelta(days=80)
    )
    monkeypatch.setattr(breaker, "outage", Outage())
    monkeypatch.setattr(keyring_cache, "read_at", time.monotonic() - 60)

    found = {alarm.kind: alarm for alarm in find_alarms()}
    assert set(found) == {
        "redis", "database", "token_reuse", "lockouts", "networks_halved", "networks_blocked", "signing_key", "gateway",
        "worker", "mail",
    }  # fmt: skip
    for alarm in found.values():
        assert not alarm.title.endswith(".")
        assert alarm.sentence.endswith(".")
        assert alarm.remedy or re.search(r"Check |log", alarm.sentence), alarm.kind


def test_alarms_that_are_old_or_not_known_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding.remembered, "computed_at", time.monotonic())
    assert finding.not_current() == ()

    monkeypatch.setattr(finding.remembered, "computed_at", time.monotonic() - 60)
    assert [alarm.title for alarm in finding.not_current()] == ["The alarms are 60 s old"]

    monkeypatch.setattr(finding.remembered, "computed_at", float("-inf"))
    assert [alarm.title for alarm in finding.not_current()] == ["The alarms are not known"]


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
