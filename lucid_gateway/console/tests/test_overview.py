"""The overview and its JSON: the numbers of the figures, words for each state, and links to what is behind them."""

import time
from threading import Event
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.tests.operators import browser, signed_in
from lucid_gateway.console import overview
from lucid_gateway.console.alarms import finding
from lucid_gateway.console.figure_cards import percent
from lucid_gateway.console.plots import pieces
from lucid_gateway.console.remembered import PATIENCE_SECONDS
from lucid_gateway.figures.ledger import Ledger
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.kernel.histogram import bucket_of
from lucid_gateway.operators.numbers import duration, rate
from lucid_gateway.server import samples

JSON = "/admin/overview.json"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def page(admin: User) -> Client:
    return signed_in(admin)


def counted(groups: dict[str, dict[str, int]], *, ago: int = 20, gateway: str = "host:8080") -> None:
    """Write the rows of a gateway that counted this so many seconds ago."""
    ledger, now = Ledger(), time.time()
    ledger.add(samples.Sample(int(now - ago) // 10 * 10, groups), now - ago + 11)
    for key, row in ledger.unwritten():
        Sample(key, gateway, row.seconds, row.start, **columns(row.groups)).save()


def requests(count: int, *, refused: int = 0, failed: int = 0) -> dict[str, dict[str, int]]:
    return {
        "statuses": {"2xx": count - refused - failed, "4xx": refused, "5xx": failed},
        "seconds": {bucket_of(0.02): count},
        "refused": {"tier_exhausted": refused},
        "failed": {"instance_timeout": failed},
        "failed.routes": {f"instance_timeout api/v1/{HOSTILE}": failed},
        "routes": {f"api/v1/{HOSTILE}": count},
        "routes.refused": {f"api/v1/{HOSTILE}": refused},
        "offenders.address": {"192.0.2.1 tier_exhausted": refused},
        "offenders.network": {"192.0.2.0/24 tier_exhausted": refused},
    }


def text(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


@pytest.mark.parametrize("period", ["1h", "24h"])
def test_the_page_has_the_numbers_of_all_gateways(page: Client, period: str) -> None:
    counted(requests(1_000, refused=50, failed=10), gateway="a:8080")
    counted(requests(1_000), gateway="b:8080")

    response = page.get("/admin/", {"period": period})
    cards = {card.name: card.value for card in response.context["cards"]}
    assert (cards["Refused"], cards["Errors (5xx)"]) == ("2.5 %", "0.5 %")
    assert float(cards["p95 latency"].removesuffix(" ms")) == pytest.approx(20, rel=0.2)
    shown = text(response)
    assert "2 gateways" in shown
    assert "192.0.2.1" in shown
    assert "tier exhausted" in shown


def test_the_json_has_the_parts_of_the_page_and_the_values_of_its_plots(page: Client) -> None:
    counted(requests(600, refused=60))

    answer = page.get(JSON)
    found = answer.json()
    assert "no-store" in answer["Cache-Control"]
    assert set(found["parts"]) == set(overview.PARTS)
    assert "10.0 %" in found["parts"]["cards"]
    answers = next(plot for plot in found["plots"] if plot["name"] == "answers")
    assert [line["name"] for line in answers["lines"]] == ["2xx", "3xx", "4xx", "5xx"]
    assert all(len(line["values"]) == len(answers["times"]) for line in answers["lines"])
    assert max(value or 0 for value in answers["lines"][0]["values"]) > 0


def test_hostile_names_are_texts_everywhere(page: Client) -> None:
    counted(requests(100, refused=10, failed=5))

    assert HOSTILE not in text(page.get("/admin/"))
    assert HOSTILE not in "".join(page.get(JSON).json()["parts"].values())


def test_without_figures_each_part_says_so(page: Client) -> None:
    shown = text(page.get("/admin/"))

    assert "No gateway has written figures in the last ten minutes." in shown
    assert "No request was refused or failed in the last hour." in shown
    assert "Nobody was refused in the last hour." in shown
    assert "No requests in the last hour." in shown


def test_old_figures_say_their_age(page: Client) -> None:
    counted(requests(100), ago=300)

    assert "no gateway has written newer ones" in page.get(JSON).json()["parts"]["state"]


def test_the_page_says_that_the_database_does_not_answer(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise DatabaseError("down")

    monkeypatch.setattr(overview, "read_figures", fail)

    assert "The database does not answer, so there are no figures." in text(page.get("/admin/"))
    found = page.get(JSON).json()
    assert found["plots"] == []
    assert set(found["parts"]) == {"state", "alarms", "health", "strip"}  # an open page keeps its old figures


def test_an_unknown_period_is_the_last_hour(page: Client) -> None:
    assert page.get(JSON, {"period": "7d"}).json()["period"] == "1h"


@pytest.mark.parametrize("path", ["/admin/", JSON, "/admin/alarms/", "/admin/alarms.json"])
def test_only_staff_see_figures_and_alarms(owner: User, path: str) -> None:
    for visitor in (browser(), signed_in(owner)):
        response = visitor.get(path)
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")


def test_the_alarms_page_lists_what_is_watched(page: Client) -> None:
    assert "A cluster or one of its instances is down, or a circuit breaker is open." in text(
        page.get("/admin/alarms/")
    )


def test_the_json_of_the_alarms_has_the_numbers_of_the_menu(page: Client) -> None:
    found = page.get("/admin/alarms.json").json()

    assert set(found["parts"]) == {"open-alarms", "strip"}
    assert set(found["counts"]) == {"/admin/alarms/", "/admin/proxy/maintenance/"}
    assert page.get(JSON).json()["counts"] == found["counts"]


def test_the_number_of_queries_is_constant(page: Client, owner: User) -> None:
    numbers = []
    for gateways in (1, 5):
        for number in range(gateways):
            groups = requests(100, refused=10) | {
                "offenders.user": {f"{owner.pk} permission_missing": 5 + number},
                "offenders.key": {f"key{number} quota_exhausted": 50 + number},
            }
            counted(groups, gateway=f"{gateways}.{number}:8080")
        with CaptureQueriesContext(connection) as queries:
            page.get(JSON)
        numbers.append(len(queries))
    assert numbers[1] <= numbers[0]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (rate(684.3), "684"), (rate(12_345), "12,345"), (rate(0.123), "0.12"), (rate(0), "0"),
        (duration(None), "–"), (duration(2.44), "2.4 ms"), (duration(24), "24 ms"),
        (duration(1_540), "1.5 s"), (percent(0), "0.0 %"), (percent(0.0001), "< 0.1 %"), (percent(0.061), "6.1 %"),
    ],
)  # fmt: skip
def test_numbers_have_units_and_few_digits(shown: str, expected: str) -> None:
    assert shown == expected


def test_a_gap_interrupts_a_line_and_a_single_value_is_a_dot() -> None:
    line, dot = pieces([1.0, 2.0, None, 3.0], 3.0)
    assert len(line.split()) == 2
    assert dot.split() == 2 * ["600.0,4.0"]


def test_nothing_is_drawn_for_the_time_before_the_first_figures(page: Client) -> None:
    counted(requests(600))

    answers = page.get(JSON).json()["plots"][0]["lines"][0]["values"]
    assert answers[0] is None
    assert answers[-1] is not None


def test_time_without_any_gateway_is_a_gap_and_idle_time_is_zero(page: Client) -> None:
    counted(requests(600), ago=1_800)
    counted({"figures": {"rounds": 6}}, ago=1_200)
    counted(requests(600))

    values = page.get(JSON).json()["plots"][0]["lines"][0]["values"]
    known = [value for value in values if value is not None]
    assert len(known) == 3
    assert known[1] == 0


def test_the_page_does_not_wait_long_for_alarms(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = Event()
    monkeypatch.setattr(finding.remembered, "compute", lambda: finished.wait(30) and ())
    monkeypatch.setattr(finding.remembered, "computed_at", time.monotonic() - 60)
    started = time.monotonic()
    try:
        shown = text(page.get("/admin/"))
    finally:
        finished.set()

    assert "The alarms are " in shown
    assert PATIENCE_SECONDS <= 0.3
    assert time.monotonic() - started < 5  # the alarms need 30
