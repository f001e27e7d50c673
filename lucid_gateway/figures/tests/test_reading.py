"""Reading the figures: sums over gateways, percentiles of merged histograms, exact periods and few queries."""

import itertools
import time
from statistics import median

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from lucid_gateway.figures import reading
from lucid_gateway.figures.gateways import read_gateways, read_gateways_and_workers
from lucid_gateway.figures.instances import read_instances
from lucid_gateway.figures.ledger import Ledger
from lucid_gateway.figures.models import Sample, columns
from lucid_gateway.figures.reading import DAY, HOUR, History, cover, cover_until_now, read_figures
from lucid_gateway.kernel.histogram import bucket_of
from lucid_gateway.server import samples

NOW = 1_000_000_800 + 7 * 60 + 25  # seven minutes and 25 seconds after a whole hour


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> History:
    made = History()
    monkeypatch.setattr(reading, "history", made)
    return made


def gateway_counts(name: str, *given: tuple[int, dict[str, dict[str, int]]]) -> None:
    """Write the rows of a gateway that counted these groups so many seconds ago."""
    ledger = Ledger()
    for age, groups in given:
        start = (NOW - age) // 10 * 10
        ledger.add(samples.Sample(start, groups), start + 11)
    for key, row in ledger.unwritten():
        Sample(key, name, row.seconds, row.start, **columns(row.groups)).save()


def requests(count: int, *, refused: int = 0, seconds: float = 0.01) -> dict[str, dict[str, int]]:
    return {
        "statuses": {"2xx": count - refused, "4xx": refused},
        "refused": {"tier_exhausted": refused},
        "seconds": {bucket_of(seconds): count},
        "routes": {"api/v1/users": count},
    }


def test_the_figures_are_sums_over_all_gateways(db: None) -> None:
    gateway_counts("a", (60, requests(30, refused=3)), (1_800, requests(10)))
    gateway_counts("b", (60, requests(70, refused=7)))

    total = read_figures(HOUR, NOW).total
    assert (total.requests, total.all("refused"), total.groups["routes"]) == (110, 10, {"api/v1/users": 110})
    assert total.refused_share == pytest.approx(10 / 110)


@pytest.mark.parametrize("period", [HOUR, DAY])
def test_each_point_has_the_requests_of_its_own_step(db: None, period: reading.Period) -> None:
    ages = [period.step * number for number in range(1, 6)]
    gateway_counts("a", *((age, requests(age)) for age in ages))

    points = read_figures(period, NOW).points
    assert [point.requests for point in points if point.requests] == sorted(ages, reverse=True)
    assert all((later.start - earlier.start) == period.step for earlier, later in itertools.pairwise(points))


def test_what_is_older_than_the_period_counts_in_the_period_before(db: None) -> None:
    since = HOUR.since(NOW)
    gateway_counts("a", *((NOW - start, requests(1)) for start in (since - 3_600, since - 10, since, NOW - 10)))
    gateway_counts("b", (NOW - since + 3_610, requests(50)))

    figures = read_figures(HOUR, NOW)
    assert (figures.total.requests, figures.before.requests) == (2, 2)
    assert figures.total.groups["routes"] == {"api/v1/users": 2}


def test_a_percentile_is_that_of_all_requests_and_no_average(db: None) -> None:
    gateway_counts("fast", (60, requests(990, seconds=0.005)))
    gateway_counts("slow", (60, requests(110, seconds=2.0)))

    total = read_figures(HOUR, NOW).total
    assert total.percentile_ms(0.5) == pytest.approx(5, rel=0.2)
    assert total.percentile_ms(0.95) == pytest.approx(2_000, rel=0.2)


def test_rates_are_for_the_time_that_has_figures(db: None) -> None:
    gateway_counts("new", (25, requests(100)), (15, requests(100)))

    figures = read_figures(HOUR, NOW)
    assert figures.total.seconds == figures.up_to - figures.points[-1].start  # since the minute of its start
    assert figures.points[-1].per_second == pytest.approx(200 / figures.total.seconds)


def test_the_period_before_is_compared_by_the_time_that_has_figures(db: None) -> None:
    since = HOUR.since(NOW)
    gateway_counts("new", *((NOW - start, requests(600)) for start in range(since - 600, since, 10)))

    before = read_figures(HOUR, NOW).before
    assert before.requests == 60 * 600
    assert before.per_second == pytest.approx(60, rel=0.5)


def test_logins_and_failures_are_counted_by_kind(db: None) -> None:
    events = {"login.succeeded": 4, "admin.login": 1, "login.failed": 2, "login.blocked": 1, "logout": 9}
    gateway_counts("a", (60, {"events": events}))

    total = read_figures(HOUR, NOW).total
    assert (total.logins, total.login_failures) == (5, 3)


def test_without_figures_there_is_nothing_to_divide(db: None) -> None:
    figures = read_figures(HOUR, NOW)

    assert (figures.up_to, figures.gateways, figures.total.requests) == (None, (), 0)
    assert (figures.total.refused_share, figures.total.error_share) == (0, 0)
    assert figures.total.percentile_ms(0.95) is None


def test_the_age_of_the_newest_sample_of_each_gateway_is_known(db: None) -> None:
    for name, age in (("living", 12), ("silent", 300), ("long gone", 3_000)):
        gateway_counts(name, (age, requests(1)))

    living, silent = read_gateways(NOW)
    assert (living.name, living.is_living(NOW), silent.name, silent.is_living(NOW)) == ("living", True, "silent", False)
    assert NOW - living.up_to <= 10


def test_the_workers_of_a_gateway_are_those_of_its_newest_row(db: None) -> None:
    for age, workers in ((32, {"1": 0, "2": 0}), (22, {"1": 2, "2": 25}), (12, {"1": 1, "2": 35, "3": 0})):
        gateway_workers("a", "life", age, workers)
    for number in (4, 5):  # each worker writes rows of its own
        gateway_workers("b", f"life {number}".replace(" ", ""), 22, {str(number): 0})

    Sample("life 10 current", "a", 10, NOW // 10 * 10, **columns({})).save()

    one, two = read_gateways_and_workers(NOW)
    assert (one.living_workers, one.silent_workers) == (2, {"2": 35})
    assert (two.living_workers, two.silent_workers) == (2, {})


def gateway_workers(name: str, life: str, age: int, workers: dict[str, int]) -> None:
    start = (NOW - age) // 10 * 10
    Sample(f"{life} 10 {start}", name, 10, start, **columns({"workers": workers})).save()


def test_an_instance_has_its_attempts_failures_and_times(db: None) -> None:
    name = "core http://10.0.0.1"
    groups = {"instances": {name: 20}, "instances.failed": {name: 2}, f"first_byte {name}": {bucket_of(0.05): 18}}
    gateway_counts("a", (60, groups))
    gateway_counts("b", (60, groups))

    [(key, series)] = read_instances(NOW).items()
    assert key == ("core", "http://10.0.0.1")
    assert (sum(series.attempts), sum(series.failed), len(series.attempts)) == (40, 4, 60)
    assert [ms for ms in series.p95_ms if ms is not None] == [pytest.approx(50, rel=0.2)]
    assert (series.p50_hour_ms, series.p95_hour_ms) == (pytest.approx(50, rel=0.2), pytest.approx(50, rel=0.2))


@pytest.mark.parametrize("until", [None, NOW + 7_200 - 25])
def test_rows_cover_a_period_without_gaps_or_overlaps(until: int | None) -> None:
    since = HOUR.since(NOW)
    rows = list(cover_until_now(since, NOW) if until is None else cover(since, until))

    assert rows[0][1] == since
    assert all(start + seconds == after for (seconds, start), (_, after) in itertools.pairwise(rows))
    assert (sum(rows[-1]) > NOW) if until is None else (sum(rows[-1]) == until)
    assert len(rows) < 20


def test_a_row_that_may_still_change_is_read_again(db: None) -> None:
    gateway_counts("a", (15, requests(1)))
    assert read_figures(HOUR, NOW).total.requests == 1

    gateway_counts("b", (15, requests(1)))
    assert read_figures(HOUR, NOW).total.requests == 2


def test_a_second_look_reads_only_the_newest_rows(db: None) -> None:
    gateway_counts("a", *((age, requests(1)) for age in range(60, 3_600, 60)))
    first = read_figures(HOUR, NOW)
    Sample.objects.filter(start__lt=NOW - 1_200, seconds=60).delete()

    assert read_figures(HOUR, NOW).total.requests == first.total.requests


@pytest.mark.parametrize("gateways", [1, 4])
def test_the_number_of_queries_is_constant(db: None, gateways: int) -> None:
    for number in range(gateways):
        gateway_counts(f"gateway {number}", *((age, requests(1)) for age in range(60, 86_400, 7_200)))
    for period in (HOUR, DAY):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            read_figures(period, NOW)
        assert len(queries) == 4


def test_offenders_of_all_gateways_are_bounded(db: None) -> None:
    for gateway in range(4):
        counts = {f"10.{gateway}.{number}.1 tier_exhausted": 1 for number in range(200)}
        gateway_counts(f"g{gateway}", (15, {"offenders.address": counts}), (15, {"offenders.address": {"a x": 500}}))

    shown = read_figures(HOUR, NOW).total.groups["offenders.address"]
    assert len(shown) <= reading.MAX_OFFENDERS + 1
    assert shown["a x"] == 2_000
    assert sum(shown.values()) == 4 * 700


@pytest.mark.quiet
def test_a_refresh_of_ten_gateways_takes_less_than_a_tenth_of_a_second(db: None) -> None:
    groups = requests(500, refused=40) | {
        "seconds": {str(bucket): 10 for bucket in range(40)},
        "routes": {f"api/v1/route/{number}": 10 for number in range(60)},
        "offenders.address": {f"192.0.2.{number} tier_exhausted": 5 for number in range(100)},
    }
    rows = [
        Sample(f"{gateway} {seconds} {start}", f"g{gateway}", seconds, start, **columns(groups))
        for gateway in range(10)
        for seconds, hours in ((60, 2), (600, 48), (3600, 48))
        for start in range(NOW // seconds * seconds - hours * 3600, NOW, seconds)
    ]
    Sample.objects.bulk_create(rows, batch_size=1_000)
    for period in (HOUR, DAY):
        read_figures(period, NOW)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            read_figures(period, NOW)
            times.append(time.perf_counter() - began)
        assert median(times) < 0.1
