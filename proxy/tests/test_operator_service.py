"""The cards of the clusters page, and its buttons that take instances out of service and put them back."""

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from accounts.tests.operators import browser, messages_of, prove, signed_in
from conftest import make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.figures import reading
from lucid_gateway.figures.models import Sample, packed
from lucid_gateway.kernel.histogram import bucket_of
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.policy.roles import Role
from proxy.choosing.closures import is_closed
from proxy.choosing.reports import InstanceReport
from proxy.models import Maintenance
from proxy.operators import overview
from proxy.tests.test_operator_clusters import CORE, LIST, Twins, put, report, set_reports, text

NOW, CLOSE, OPEN = f"{LIST}now.json", f"{LIST}close/", f"{LIST}open/"
ANSWERS = {"kind": "drain", "minutes": "", "reason": "an upgrade"}
pytestmark = pytest.mark.usefixtures("twins")


@pytest.fixture
def page(admin: User) -> Client:
    """A browser in which the admin is signed in."""
    return signed_in(admin)


@pytest.fixture(autouse=True)
def no_known_figures() -> None:
    """Forget the figures that this process has read."""
    reading.history.known.clear()


def cards(page: Client) -> str:
    """Return the cards as the page gets them every five seconds."""
    return " ".join(page.get(NOW).json()["parts"]["cluster-cards"].split())


def close(page: Client, target: str, *, confirmed: bool = True, **answers: str) -> Any:
    data = ANSWERS | answers | ({"_confirmed": "yes"} if confirmed else {})
    return page.post(f"{CLOSE}?{target_query(target)}", data, follow=confirmed)


def target_query(target: str) -> str:
    return f"target={target.replace(' ', '%20')}"


def put_back(page: Client, **sent: Any) -> list[str]:
    return messages_of(page.post(OPEN, sent, follow=True))


# The cards


def test_the_page_and_the_endpoint_show_the_same_cards(page: Client) -> None:
    answer = page.get(NOW)

    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert "no-store" in answer["Cache-Control"]
    assert cards(page) in text(page.get(LIST))
    assert answer.json()["problem"] == ""


def test_a_card_says_since_when_an_instance_is_down_and_why(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {"down_since": 0.5, "last_error": "connection refused", "last_error_at": 1.0, "health": "unhealthy"}
    set_reports(monkeypatch, report(twins[0], **refused), report(twins[1]))

    shown = cards(page)
    assert 'Went down <time datetime="1970-01-01T00:00:00.500Z"' in shown
    assert ": connection refused.</span>" in shown
    assert '<p class="banner warn">Callers are served by http://two.test.</p>' in shown


def test_the_last_error_of_an_instance_that_is_up_is_shown(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_reports(monkeypatch, report(twins[0], last_error="status 503", last_error_at=1.0), report(twins[1]))

    shown = cards(page)
    assert 'Last error <time datetime="1970-01-01T00:00:01.000Z"' in shown
    assert "Went down" not in shown


def test_an_open_breaker_shows_when_the_next_probe_goes_out(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_reports(monkeypatch, report(twins[0], breaker="open", open_until=2.0))
    assert 'Breaker open, next probe <time datetime="1970-01-01T00:00:02.000Z"' in cards(page)


def test_requests_in_progress_are_shown_with_the_limit_of_all_workers(
    page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = [report(twin, worker=worker, places=1_000) for twin in twins for worker in (1, 2)]
    set_reports(monkeypatch, *reports)
    assert "80 of 2,000 places in use" in cards(page)


def test_the_last_hour_of_an_instance_is_shown(page: Client, twins: Twins) -> None:
    name = f"{CORE} {twins[0].url}"
    groups = {
        "instances": {name: 3_600_000}, "instances.failed": {name: 36_000}, f"first_byte {name}": {bucket_of(0.05): 9},
    }  # fmt: skip
    minute = int(time.time()) // 60 * 60 - 60
    columns = {"requests": packed({}), "instances": packed(groups), "tables": packed({})}
    Sample.objects.create(sample_id="a", gateway="one", seconds=60, start=minute, **columns)

    shown = cards(page)
    assert '<span title="36,000 of 3,600,000 in the last hour">1 %</span>' in shown
    assert shown.count('<svg class="spark') == 3
    assert re.search(r">[45]\d / [45]\d ms <svg", shown)


def test_without_the_figures_the_page_says_so(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.admin.service.last_hour", lambda: None)
    assert "the figures of the last hour are missing" in cards(page)


def test_without_redis_the_endpoint_names_the_problem(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable() -> list[InstanceReport]:
        raise RedisUnavailable()

    monkeypatch.setattr(overview, "read_reports", unavailable)
    assert page.get(NOW).json()["problem"] == "Redis is unavailable"
    assert "data-problem" in text(page.get(LIST))


def test_the_number_of_queries_does_not_grow_with_the_rows(page: Client, twins: Twins) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page.get(NOW)
        return len(captured)

    queries()  # the first request of a session also writes it
    before = queries()
    for twin in twins * 10:
        put(instance=twin.url)
    assert queries() == before


# What callers notice

NOTICES: list[tuple[tuple[dict[str, Any], dict[str, Any]], str]] = [
    (({}, {}), ""),
    (({"breaker": "half-open"}, {}), ""),
    (({"health": "unhealthy"}, {}), "Callers are served by http://two.test."),
    (({"health": "unhealthy"}, {"health": "unhealthy"}), "All instances in service fail their health checks."),
    (({"breaker": "open"}, {"breaker": "open"}), "Callers get 502, 504 or 503 LUCID_ERR_5007"),
]  # fmt: skip


@pytest.mark.parametrize(("reported", "notice"), NOTICES, ids=str)
def test_a_card_says_what_callers_notice(
    *, page: Client, twins: Twins, monkeypatch: pytest.MonkeyPatch, reported: tuple[dict[str, Any], ...], notice: str
) -> None:
    set_reports(monkeypatch, *(report(twin, **fields) for twin, fields in zip(twins, reported, strict=True)))

    card = page.get(LIST).context["cards"][0]
    assert card.notice.startswith(notice)
    assert bool(card.notice) == bool(notice)


def test_callers_of_a_closed_cluster_get_503(page: Client) -> None:
    put()
    assert "Callers get 503 LUCID_ERR_5009: no instance is in service." in cards(page)


# Taking out of service


def test_the_row_has_a_button_that_takes_the_instance_out_of_service(page: Client, twins: Twins) -> None:
    link = f"{CLOSE}?target={CORE}%20http%3A%2F%2Fone.test%3A8084"

    assert f'href="{link}">Take out of service…</a>' in cards(page)
    assert "Callers of blockchain_core are served by http://two.test." in text(page.get(link))


def test_taking_an_instance_out_of_service_asks_first(page: Client, twins: Twins) -> None:
    response = close(page, f"{CORE} {twins[0].url}", confirmed=False)

    assert response.context["title"] == "Take the instance out of service"
    assert not Maintenance.objects.exists()


def test_an_instance_is_taken_out_of_service(page: Client, admin: User, twins: Twins) -> None:
    response = close(page, f"{CORE} {twins[0].url}", kind="maintenance")

    assert messages_of(response) == ["http://one.test:8084 is out of service."]
    row = Maintenance.objects.get()
    assert (row.cluster, row.instance, row.kind, row.reason) == (CORE, twins[0].url, "maintenance", "an upgrade")
    assert (row.created_by, row.ends_at) == (admin.email, None)
    assert [is_closed(CORE, twin) for twin in twins] == [True, False]
    assert '<button type="submit" form="put-back" name="target"' in cards(page)


@pytest.mark.parametrize("minutes", [15, 60, 240])
def test_it_can_end_by_itself(page: Client, twins: Twins, minutes: int) -> None:
    close(page, f"{CORE} {twins[0].url}", minutes=str(minutes))

    ends_at = Maintenance.objects.get().ends_at
    assert ends_at is not None
    assert abs(ends_at - timezone.now() - timedelta(minutes=minutes)) < timedelta(seconds=30)


BAD = [("reason", ""), ("reason", "x" * 201), ("kind", "evil"), ("kind", ""), ("minutes", "-1"), ("minutes", "7")]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_an_invalid_answer_closes_nothing(page: Client, twins: Twins, field: str, value: str) -> None:
    response = close(page, f"{CORE} {twins[0].url}", **{field: value})

    assert set(response.context["form"].errors) == {field}
    assert not Maintenance.objects.exists()


@pytest.mark.parametrize("target", ["", "nobody", f"{CORE} http://three.test", f"{CORE} nonsense", "rdp_services"])
def test_an_unknown_target_is_a_message(page: Client, target: str) -> None:
    assert messages_of(close(page, target)) == ["There is no such cluster or instance."]
    assert not Maintenance.objects.exists()


def test_a_whole_cluster_is_closed(page: Client, twins: Twins) -> None:
    close(page, CORE)

    assert Maintenance.objects.get().instance == ""
    assert all(is_closed(CORE, twin) for twin in twins)
    assert "Put all back" in cards(page)


@pytest.mark.parametrize("target", [CORE, "tron_payment http://tron.test:8085"])
def test_closing_what_serves_last_needs_a_recent_proof(page: Client, target: str, twins: Twins) -> None:
    prove(page, seconds_ago=3_600)
    if target != CORE:
        put(instance=twins[0].url)
        target = f"{CORE} {twins[1].url}"
    response = close(page, target)

    assert set(response.context["form"].errors) == {"proof"}
    assert not Maintenance.objects.filter(instance__in=["", twins[1].url]).exists()


def test_closing_one_of_several_needs_no_recent_proof(page: Client, twins: Twins) -> None:
    prove(page, seconds_ago=3_600)
    close(page, f"{CORE} {twins[0].url}")

    assert is_closed(CORE, twins[0])


# Putting back


def test_an_instance_is_put_back(page: Client, admin: User, twins: Twins) -> None:
    close(page, f"{CORE} {twins[0].url}")
    found = put_back(page, target=f"{CORE} {twins[0].url}")

    assert found == ["http://one.test:8084 gets requests again within seconds, unless other maintenance is in force."]
    assert not is_closed(CORE, twins[0])
    assert Maintenance.objects.get().ended_by == admin.email
    events = AuditEvent.objects.filter(type__startswith="cluster.").values_list("type", "actor")
    assert set(events) == {("cluster.closed", str(admin.pk)), ("cluster.opened", str(admin.pk))}


def test_a_cluster_is_put_back_without_its_instances(page: Client, twins: Twins) -> None:
    put(), put(instance=twins[0].url)
    put_back(page, target=f"{CORE} ")

    assert [is_closed(CORE, twin) for twin in twins] == [True, False]


def test_putting_back_leaves_scheduled_maintenance(page: Client, twins: Twins) -> None:
    later = put(instance=twins[0].url, starts_at=timezone.now() + timedelta(hours=1))
    put(instance=twins[0].url)
    put_back(page, target=f"{CORE} {twins[0].url}")

    assert Maintenance.objects.not_over().get() == later


def test_scheduled_maintenance_is_cancelled(page: Client) -> None:
    later = put(starts_at=timezone.now() + timedelta(hours=1))
    assert f'name="row" value="{later.pk}" class="button small">Cancel it</button>' in cards(page)

    put_back(page, row=later.pk)
    assert not Maintenance.objects.not_over().exists()


@pytest.mark.parametrize("sent", [{"row": "nonsense"}, {"target": f"{CORE} "}, {"target": "nobody"}, {}])
def test_what_has_ended_already_is_a_warning(page: Client, sent: dict[str, str]) -> None:
    put(starts_at=timezone.now() - timedelta(hours=2), ends_at=timezone.now() - timedelta(hours=1))

    assert put_back(page, **sent) == ["This maintenance has already ended."]


def test_an_instance_that_is_closed_with_its_cluster_has_no_button_of_its_own(page: Client, twins: Twins) -> None:
    put()

    shown = cards(page)
    assert "Put back" not in shown
    assert f"close/?target={CORE}" not in shown


def test_reading_changes_nothing(page: Client, twins: Twins) -> None:
    put()
    assert page.get(f"{OPEN}?target={CORE}").status_code == 405
    assert Maintenance.objects.in_force().exists()


@pytest.mark.parametrize("role", [None, Role.USER, Role.NODE_OPERATOR])
def test_users_who_are_not_staff_are_sent_to_the_login(db: None, role: Role | None) -> None:
    row, client = put(), browser() if role is None else signed_in(make_user("somebody", role))

    for response in (client.get(NOW), close(client, CORE, confirmed=False), client.post(OPEN, {"row": str(row.pk)})):
        assert (response.status_code, response["Location"].partition("?")[0]) == (302, "/admin/login/")
    assert Maintenance.objects.in_force().get() == row


def test_texts_of_operators_are_escaped(page: Client) -> None:
    put(reason="<script>alert(1)</script>")
    assert "&lt;script&gt;alert(1)" in cards(page)
