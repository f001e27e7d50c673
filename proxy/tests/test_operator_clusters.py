"""The operator page for clusters: a table of all clusters, and forms and confirmations for what the API does."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import browser, messages_of, prove, signed_in
from conftest import make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.roles import Role
from proxy.choosing.closures import closures_cache, is_closed
from proxy.choosing.reports import InstanceReport
from proxy.clusters import Instance, configured
from proxy.models import Maintenance
from proxy.operators import overview

LIST = "/admin/proxy/maintenance/"
ADD = f"{LIST}add/"
CORE = "blockchain_core"
Twins = tuple[Instance, Instance]
pytestmark = pytest.mark.usefixtures("twins")


@pytest.fixture
def page(admin: User) -> Client:
    """A browser in which the admin is signed in."""
    return signed_in(admin)


def put(**fields: Any) -> Maintenance:
    row = Maintenance.objects.create(**{"cluster": CORE, "kind": "drain", "reason": "an upgrade"} | fields)
    closures_cache.load()
    return row


def in_minutes(minutes: float) -> Any:
    return timezone.now() + timedelta(minutes=minutes)


def text(response: Any) -> str:
    """Return the page with its white space collapsed, as a browser shows it."""
    return " ".join(response.content.decode().split())


def errors(response: Any) -> dict[str, list[str]]:
    """Return the form's error messages by field."""
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def conditions(page: Client) -> dict[str, str]:
    """Return the condition of each instance of the chain, as in the table."""
    core = page.get(LIST).context["cards"][0].view
    return {instance.url: instance.condition for instance in core.instances}


def add(page: Client, **fields: str) -> Any:
    sent = {"target": f"{CORE} ", "kind": "drain", "reason": "an upgrade", "_confirmed": "yes"} | fields
    return page.post(ADD, sent)


def report(twin: Instance, **reported: Any) -> InstanceReport:
    fields: dict[str, Any] = {
        "gateway": "one", "worker": 1, "cluster": CORE, "instance": twin.url, "in_flight": 20, "breaker": "closed",
        "open_until": 0.0, "health": "healthy", "requests": 4_000, "failures": 11,
    }  # fmt: skip
    return InstanceReport(**fields | reported)


def set_reports(monkeypatch: pytest.MonkeyPatch, *reports: InstanceReport) -> None:
    """Replace the workers' reports."""
    monkeypatch.setattr(overview, "read_reports", lambda: list(reports))


# The table


def test_all_clusters_and_instances_are_shown_with_their_sums(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_reports(monkeypatch, report(twins[0]), report(twins[0], worker=2), report(twins[0], gateway="two", failures=12))

    shown = text(page.get(LIST))
    for words in ("blockchain_core", "session_management", "tron_payment", "http://one.test:8084", "http://two.test"):
        assert words in shown
    assert '<td class="num" data-label="In flight">60</td>' in shown
    assert "12,000 requests and 34 failures in 3 workers" in shown


STATES: list[tuple[dict[str, Any], str]] = [
    ({}, "up"), ({"breaker": "open"}, "down"), ({"health": "unhealthy"}, "down"),
    ({"breaker": "half-open"}, "recovering"), ({"health": "unknown"}, "up"),
]  # fmt: skip


@pytest.mark.parametrize(("reported", "condition"), STATES, ids=str)
def test_the_condition_of_an_open_instance_comes_from_the_reports(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch, reported: dict[str, Any], condition: str
) -> None:
    set_reports(monkeypatch, report(twins[0], **reported))

    assert conditions(page) == {twins[0].url: condition, twins[1].url: "unknown"}


@pytest.mark.parametrize(("in_flight", "condition"), [(3, "draining"), (0, "drained")])
def test_a_draining_instance_shows_its_requests_under_way(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch, in_flight: int, condition: str
) -> None:
    set_reports(monkeypatch, report(twins[0], in_flight=in_flight), report(twins[0], worker=2, in_flight=0))
    put(instance=twins[0].url)

    assert conditions(page)[twins[0].url] == condition
    assert "Drain of http://one.test:8084, until an operator ends it: an upgrade" in text(page.get(LIST))
    assert "1 of 2 in service" in text(page.get(LIST))


def test_an_instance_without_reports_is_not_called_drained(page: Client, twins: Twins) -> None:
    put(instance=twins[0].url)

    assert conditions(page) == {twins[0].url: "draining", twins[1].url: "unknown"}


def test_an_instance_in_maintenance_is_not_called_down(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_reports(monkeypatch, report(twins[0], health="unhealthy"))
    put(kind="maintenance", ends_at=timezone.now().replace(year=2999, month=1, day=2, hour=3, minute=4))

    assert set(conditions(page).values()) == {"in maintenance"}
    assert "Health unknown" in text(page.get(LIST))
    assert "unhealthy" not in text(page.get(LIST))
    assert re.search("Maintenance, until <time [^>]*>2999-01-02 03:04 UTC</time>: an upgrade", text(page.get(LIST)))
    assert "0 of 2 in service" in text(page.get(LIST))


def test_without_redis_the_page_works_and_says_so(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Redis is unavailable" not in text(page.get(LIST))

    def unavailable() -> list[InstanceReport]:
        raise RedisUnavailable()

    monkeypatch.setattr(overview, "read_reports", unavailable)
    assert "Redis is unavailable" in text(page.get(LIST))
    assert set(conditions(page).values()) == {"unknown"}


# Closing


def test_a_whole_cluster_is_closed_by_a_form(page: Client, admin: User, twins: Twins) -> None:
    response = add(page)

    assert response.status_code == 302, errors(response)
    row = Maintenance.objects.get()
    assert (row.cluster, row.instance, row.kind, row.reason) == (CORE, "", "drain", "an upgrade")
    assert (row.created_by, row.ends_at, row.state) == (admin.email, None, "in_force")
    assert all(is_closed(CORE, twin) for twin in twins)


def test_closing_a_whole_cluster_asks_first(page: Client) -> None:
    asked = page.post(ADD, {"target": f"{CORE} ", "kind": "drain", "reason": "an upgrade"})

    assert (asked.status_code, asked.context["title"]) == (200, f"Close the whole cluster {CORE}")
    assert ("reason", "an upgrade") in asked.context["carried"]
    assert Maintenance.objects.count() == 0


def test_an_instance_is_closed_without_a_question(page: Client, twins: Twins) -> None:
    fields = {"target": f"{CORE} {twins[0].url}", "kind": "drain", "reason": "an upgrade"}

    assert page.post(ADD, fields).status_code == 302
    assert Maintenance.objects.get().instance == twins[0].url


def test_closing_the_last_instance_in_service_asks_first(page: Client, twins: Twins) -> None:
    put(instance=twins[0].url)
    asked = page.post(ADD, {"target": f"{CORE} {twins[1].url}", "kind": "drain", "reason": "an upgrade"})

    assert (asked.status_code, asked.context["title"]) == (200, "Take the instance out of service")
    assert "No other instance of blockchain_core is up: callers get 503." in asked.context["warning"]
    assert Maintenance.objects.count() == 1


def test_an_instance_is_closed_in_a_window(page: Client, twins: Twins) -> None:
    window = {
        "starts_at": "2998-01-02T03:04", "ends_at": "2999-01-02T03:04:05",
    }  # fmt: skip
    response = add(page, target=f"{CORE} {twins[1].url}", kind="maintenance", **window)

    assert response.status_code == 302, errors(response)
    row = Maintenance.objects.get()
    assert (row.instance, row.state) == (twins[1].url, "coming")
    assert row.ends_at is not None
    assert (row.starts_at.year, row.ends_at.isoformat()) == (2998, "2999-01-02T03:04:05+00:00")


def test_the_form_offers_all_clusters_and_instances(page: Client, twins: Twins) -> None:
    form = page.get(ADD).context["adminform"].form
    offered = {value for _, group in form.fields["target"].choices for value, _ in group}

    assert offered >= {f"{CORE} ", f"{CORE} {twins[0].url}", f"{CORE} {twins[1].url}", "tron_payment "}


def test_the_table_links_to_the_form_with_its_target(page: Client) -> None:
    link = f"{ADD}?target={CORE}%20http%3A%2F%2Fone.test%3A8084"

    assert f'href="{link}"' in text(page.get(LIST))
    assert f'<option value="{CORE} http://one.test:8084" selected>' in text(page.get(link))


START = {"starts_at": "2999-01-02T00:00"}
BAD: list[tuple[dict[str, str], set[str]]] = [
    ({"target": "nobody "}, {"target"}),
    ({"target": f"{CORE} http://three.test"}, {"target"}),
    ({"target": ""}, {"target"}),
    ({"kind": "evil"}, {"kind"}),
    ({"reason": ""}, {"reason"}),
    ({"ends_at": "2020-01-01T00:00"}, {"ends_at"}),
    (START | {"ends_at": "2999-01-01T00:00"}, {"ends_at"}),
    ({"starts_at": "soon"}, {"starts_at"}),
]  # fmt: skip


def test_an_invalid_form_shows_an_error(page: Client) -> None:
    for changes, fields in BAD:
        response = add(page, **changes)

        assert (response.status_code, set(errors(response))) == (200, fields), changes
    assert not Maintenance.objects.exists()


# Ending


def end(page: Client, *rows: Maintenance, confirmed: bool = True) -> Any:
    """Select rows and the action to end them, and confirm it if `confirmed`."""
    data: dict[str, Any] = {"action": "end", "_selected_action": [str(row.pk) for row in rows]}
    return page.post(LIST, data | ({"_confirmed": "yes"} if confirmed else {}), follow=True)


def test_ending_requires_a_confirmation(page: Client, twins: Twins) -> None:
    row = put()

    assert "drain of blockchain_core" in text(end(page, row, confirmed=False))
    assert Maintenance.objects.not_over().exists()
    assert is_closed(CORE, twins[0])


def test_ended_maintenance_stays_as_history(page: Client, admin: User, twins: Twins) -> None:
    rows = [put(), put(starts_at=in_minutes(5)), put(instance=twins[1].url)]

    assert messages_of(end(page, *rows[:2])) == ["2 maintenance windows ended."]
    assert [is_closed(CORE, twin) for twin in twins] == [False, True]
    assert set(Maintenance.objects.over().values_list("ended_by", flat=True)) == {admin.email}
    assert Maintenance.objects.count() == 3


def test_maintenance_that_is_over_cannot_be_ended(page: Client) -> None:
    over, in_force = put(starts_at=in_minutes(-9), ends_at=in_minutes(-1)), put()

    assert messages_of(end(page, over)) == ["All of the selected maintenance has already ended."]
    assert messages_of(end(page, over, in_force)) == ["1 maintenance window ended."]


FOUND = {
    "": 3, "?time=in_force": 1, "?time=coming": 1, "?time=over": 1, "?time=evil": 3, "?kind__exact=maintenance": 1,
    "?cluster=tron_payment": 1, "?q=tron": 1, "?q=upgrade": 3, "?q=two.test": 1, "?o=3": 3, "?o=-3": 3,
}  # fmt: skip


def test_rows_are_searched_filtered_and_sorted(page: Client, twins: Twins) -> None:
    put(instance=twins[1].url)
    put(starts_at=in_minutes(5), cluster="tron_payment")
    put(starts_at=in_minutes(-9), ends_at=in_minutes(-1), kind="maintenance")

    assert {query: len(page.get(f"{LIST}{query}").context["cl"].result_list) for query in FOUND} == FOUND


# Permissions and audit


def test_rows_are_neither_changed_nor_deleted(page: Client) -> None:
    row = put()

    assert page.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert page.post(f"{LIST}{row.pk}/change/", {"reason": "other"}).status_code == 403
    shown = text(page.get(f"{LIST}{row.pk}/change/"))
    assert "an upgrade" in shown
    assert "delete_selected" not in shown + text(page.get(LIST))


@pytest.mark.parametrize("role", [None, Role.USER, Role.NODE_OPERATOR])
def test_users_who_are_not_staff_are_sent_to_the_login(db: None, role: Role | None) -> None:
    row, client = put(), browser() if role is None else signed_in(make_user("somebody", role))

    for path in (LIST, ADD, f"{LIST}{row.pk}/change/"):
        for response in (client.get(path), client.post(path, {"action": "end", "_selected_action": [str(row.pk)]})):
            assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/"), path
    assert Maintenance.objects.not_over().exists()


def test_closing_and_opening_are_audited(page: Client, admin: User) -> None:
    add(page)
    end(page, Maintenance.objects.get())

    events = AuditEvent.objects.filter(type__startswith="cluster.").order_by("created_at")
    assert [(event.type, event.actor, event.subject) for event in events] == [
        ("cluster.closed", str(admin.pk), CORE), ("cluster.opened", str(admin.pk), CORE),
    ]  # fmt: skip


def test_the_text_of_a_row_is_escaped(page: Client) -> None:
    row = put(reason="<script>alert(1)</script>")

    shown = text(page.get(LIST)) + text(page.get(f"{LIST}{row.pk}/change/"))
    assert "alert(1)" in shown
    assert "<script>alert" not in shown


# Maintenance of one instance closes the cluster if other maintenance closes the others at the same time. A row is
# (start, end) in minutes from now; None is open-ended.
OVERLAPS: list[tuple[str, list[tuple[int, int | None]], tuple[int, int | None], bool]] = [
    ("the same hour", [(60, 120)], (60, 120), True),
    ("an hour that begins later", [(90, 150)], (60, 120), True),
    ("an hour that began earlier", [(30, 90)], (60, 120), True),
    ("no end of the other", [(60, None)], (90, 120), True),
    ("no end of this one", [(600, 660)], (60, None), True),
    ("from now on", [(0, None)], (0, 60), True),
    ("until this one begins", [(0, 60)], (60, 120), False),
    ("from the end of this one", [(120, 180)], (60, 120), False),
    ("nothing", [], (60, 120), False),
]


@pytest.mark.parametrize("case", OVERLAPS, ids=lambda case: case[0])
def test_maintenance_that_overlaps_that_of_the_other_instance_is_as_dangerous_as_closing_the_cluster(
    page: Client, twins: Twins, case: Any
) -> None:
    name, others, window, closes = case
    now = in_minutes(0).replace(second=0, microsecond=0)
    at = lambda minutes: None if minutes is None else now + timedelta(minutes=minutes)  # noqa: E731
    for start, end in others:
        put(instance=twins[0].url, starts_at=at(start), ends_at=at(end))
    prove(page, seconds_ago=3_600)
    start, end = (f"{at(each):%Y-%m-%dT%H:%M}" if each else "" for each in window)

    response = add(page, target=f"{CORE} {twins[1].url}", starts_at=start, ends_at=end)

    made = Maintenance.objects.filter(instance=twins[1].url)
    assert (response.status_code, made.exists()) == ((200, False) if closes else (302, True)), name
    if closes:
        assert "callers get 503" in text(response)
        assert 'name="proof"' in text(response)


def test_of_three_instances_one_may_be_left_at_each_time(page: Client, settings: Any) -> None:
    """The others are closed one after the other, not together."""
    urls = ("http://one.test:8084", "http://two.test", "http://three.test")
    settings.ENV = settings.ENV.model_copy(update={"BLOCKCHAIN_CORE_URL": urls})
    configured.cache_clear()
    put(instance=urls[0], starts_at=in_minutes(60), ends_at=in_minutes(90))
    second = put(instance=urls[1], starts_at=in_minutes(90), ends_at=in_minutes(120))
    window = {name: f"{in_minutes(each):%Y-%m-%dT%H:%M}" for name, each in (("starts_at", 30), ("ends_at", 180))}
    sent = {"target": f"{CORE} {urls[2]}", **window}

    prove(page, seconds_ago=3_600)
    Maintenance.objects.filter(pk=second.pk).update(starts_at=in_minutes(89))
    assert add(page, **sent).status_code == 200
    Maintenance.objects.filter(pk=second.pk).update(starts_at=second.starts_at)
    assert add(page, **sent).status_code == 302
