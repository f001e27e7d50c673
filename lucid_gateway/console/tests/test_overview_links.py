"""Every number of the overview leads to the list of what was counted: both are made of the same requests."""

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from accounts.models import User
from accounts.tests.operators import signed_in
from lucid_gateway.audit.events import record as record_event
from lucid_gateway.explorer.rows import row_of
from lucid_gateway.figures import reading
from lucid_gateway.figures.ledger import Ledger
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.record import Claim, RequestRecord
from lucid_gateway.operators.links import time_of
from lucid_gateway.server import samples
from lucid_gateway.server.kept_requests import FinishedRequest

ROUTE = "api/v1/chain/blocks"
# (status, reason, route) of each request; the ones without a reason were answered by the cluster.
REQUESTS = (
    *3 * [(200, None, ROUTE)], (304, None, ROUTE), *2 * [(404, None, ROUTE)], *4 * [(429, "tier_exhausted", ROUTE)],
    *2 * [(404, "unknown_path", None)], (499, "client_left", ROUTE), *3 * [(500, None, ROUTE)],
    *2 * [(504, "instance_timeout", ROUTE)],
)  # fmt: skip


@pytest.fixture
def page(admin: User, owner: User, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The browser of an admin, with these requests counted and kept, and some logins that were counted and recorded."""
    counted = samples.Samples()
    monkeypatch.setattr(samples, "samples", counted)
    monkeypatch.setattr(reading, "history", reading.History())
    for status, reason, route in REQUESTS:
        request = RequestRecord(client_address="198.51.100.7")
        request.request_id, request.method, request.path, request.route = "r", "GET", "/", route
        request.reason, request.claim = reason, Claim("token", "a-jti", str(owner.pk))
        samples.count_request(request, status, 0.02)
        row_of(FinishedRequest(request, status, 0, 0.02, time.time(), None)).save()
    for kind, outcome in (("login.succeeded", "success"), ("login.failed", "failure"), ("login.blocked", "blocked")):
        record_event(kind, subject=owner, outcome=outcome)
    write(counted)
    return signed_in(admin)


def write(counted: samples.Samples) -> None:
    ledger = Ledger()
    for sample in counted.take():
        ledger.add(sample, time.time())
    for key, row in ledger.unwritten():
        Sample(key, "host:8080", row.seconds, row.start, **columns(row.groups)).save()


def rows_behind(page: Client, url: str) -> int:
    """Return how many rows the list has, whether it is the explorer or the audit log."""
    response = page.get(url)
    assert response.status_code == 200, url
    context: Any = response.context
    return int(context["found"].total if "found" in context else context["cl"].result_count)


def context_of(page: Client) -> Any:
    return page.get("/admin/").context


def test_the_shares_lead_to_the_requests_that_were_refused_and_that_failed(page: Client) -> None:
    cards = {card.name: card for card in context_of(page)["cards"]}

    assert cards["Refused"].value == "33.3 %"
    assert rows_behind(page, cards["Refused"].url) == 6  # neither the cluster's own 404, nor the client that left
    assert cards["Errors (5xx)"].value == "27.8 %"
    assert rows_behind(page, cards["Errors (5xx)"].url) == 5


@pytest.mark.parametrize(("status", "count"), [("2xx", 3), ("3xx", 1), ("4xx", 9), ("5xx", 5)])
def test_each_class_of_status_leads_to_its_requests(page: Client, status: str, count: int) -> None:
    lines = {line.name: line for line in context_of(page)["plots"][0].lines}

    assert rows_behind(page, lines[status].url) == count


def test_each_reason_leads_to_its_requests(page: Client) -> None:
    rows = {row.name: row for row in context_of(page)["reasons"]}

    assert {name: row.count for name, row in rows.items()} == {
        "tier_exhausted": 4, "instance_error": 3, "unknown_path": 2, "instance_timeout": 2
    }  # fmt: skip
    for row in rows.values():
        assert rows_behind(page, row.url) == row.count


def test_each_number_of_a_route_leads_to_its_requests(page: Client) -> None:
    rows = {row.name: row for row in context_of(page)["routes"]}

    assert [(row.name, row.count, row.refused, row.failed) for row in rows.values()] == [
        (ROUTE, 16, 4, 5),
        ("", 2, 2, 0),
    ]
    for row in rows.values():
        assert rows_behind(page, row.url) == row.count
        assert rows_behind(page, row.refused_url) == row.refused
        assert rows_behind(page, row.failed_url) == row.failed


def test_an_offender_leads_to_its_refused_requests(page: Client) -> None:
    offenders = context_of(page)["offenders"]

    assert [(offender.kind, offender.count) for offender in offenders] == [("user", 6)]
    assert rows_behind(page, offenders[0].requests_url) == 6


@pytest.mark.parametrize(("name", "count"), [("succeeded", 1), ("failed", 2)])
def test_logins_lead_to_their_events(page: Client, name: str, count: int) -> None:
    lines = {line.name: line for line in context_of(page)["plots"][3].lines}

    assert rows_behind(page, lines[name].url) == count


def test_a_list_begins_with_the_first_minute_that_was_counted(page: Client) -> None:
    before = reading.HOUR.since(time.time())
    url = {card.name: card.url for card in context_of(page)["cards"]}["Refused"]
    began = {time_of(start) for start in (before, reading.HOUR.since(time.time()))}

    assert parse_qs(urlsplit(url).query)["since"][0] in began
