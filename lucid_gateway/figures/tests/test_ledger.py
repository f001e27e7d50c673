"""The rows of a gateway that may still change: what is added where, how long they stay, and what fits into a row."""

import pytest

from lucid_gateway.figures.ledger import (
    OPEN_SECONDS,
    UNWRITTEN_SECONDS,
    WRITTEN_OFFENDERS,
    Ledger,
    Row,
    largest,
    load,
)
from lucid_gateway.server.samples import Sample

NOW = 1_000_000_800  # a whole hour
GROUPS = {"statuses": {"2xx": 3}}


def written(ledger: Ledger) -> Ledger:
    for row in ledger.rows.values():
        row.is_written = True
    return ledger


def test_a_sample_counts_in_a_row_of_each_length() -> None:
    ledger = Ledger()
    ledger.add(Sample(NOW + 130, GROUPS), NOW + 141)
    ledger.add(Sample(NOW + 150, GROUPS), NOW + 161)

    assert {key: row.groups["statuses"]["2xx"] for key, row in ledger.rows.items()} == {
        (10, NOW + 130): 3, (10, NOW + 150): 3, (60, NOW + 120): 6, (600, NOW): 6, (3600, NOW): 6
    }  # fmt: skip


def test_a_changed_row_is_written_again_with_all_its_counts() -> None:
    ledger = Ledger()
    ledger.add(Sample(NOW, GROUPS), NOW + 11)
    written(ledger)
    ledger.add(Sample(NOW + 10, GROUPS), NOW + 21)

    rows = {key.split(" ", 1)[1]: row.shown() for key, row in ledger.unwritten()}
    assert rows == {
        f"10 {NOW + 10}": {"statuses": {"2xx": 3}},
        f"60 {NOW}": {"statuses": {"2xx": 6}},
        f"600 {NOW}": {"statuses": {"2xx": 6}},
        f"3600 {NOW}": {"statuses": {"2xx": 6}},
    }


def test_a_written_row_is_open_for_late_samples_for_a_minute() -> None:
    ledger = Ledger()
    ledger.add(Sample(NOW, GROUPS), NOW + 11)
    written(ledger).forget(NOW + 10 + OPEN_SECONDS)
    assert (10, NOW) in ledger.rows

    ledger.forget(NOW + 11 + OPEN_SECONDS)
    assert (10, NOW) not in ledger.rows
    assert ledger.lost == 0


def test_a_sample_that_is_too_late_for_a_row_is_counted_as_lost_and_changes_the_open_rows_only() -> None:
    ledger = Ledger()
    ledger.add(Sample(NOW, GROUPS), NOW + 200)

    assert list(ledger.rows) == [(600, NOW), (3600, NOW)]
    assert ledger.lost == 2


def test_a_row_waits_ten_minutes_for_the_database() -> None:
    ledger = Ledger()
    ledger.add(Sample(NOW, GROUPS), NOW + 11)
    ledger.forget(NOW + 10 + UNWRITTEN_SECONDS)
    assert len(ledger.rows) == 4

    ledger.forget(NOW + 11 + UNWRITTEN_SECONDS)
    assert set(ledger.rows) == {(60, NOW), (600, NOW), (3600, NOW)}
    assert ledger.lost == 1


def test_a_row_has_the_offenders_with_the_most_refusals_and_the_sum_of_the_others() -> None:
    counts = {f"10.0.{number // 250}.{number % 250} tier_exhausted": number + 1 for number in range(500)}
    row = Row(10, NOW, {"offenders.address": counts})

    shown = row.shown()["offenders.address"]
    assert len(shown) == WRITTEN_OFFENDERS[10] + 1
    assert (max(shown, key=lambda name: shown[name]), shown["10.0.1.249 tier_exhausted"]) == ("* tier_exhausted", 500)
    assert sum(shown.values()) == sum(counts.values())


def test_the_ledger_itself_keeps_a_bounded_number_of_offenders() -> None:
    row = Row(600, NOW)
    for hundred in range(50):
        row.add({"offenders.address": {f"10.{hundred}.0.{number} tier_exhausted": 1 for number in range(100)}})

    assert len(row.groups["offenders.address"]) <= 2_001
    assert sum(row.groups["offenders.address"].values()) == 5_000


def test_those_that_are_left_out_are_added_up_by_reason() -> None:
    counts = {"a x": 5, "b x": 2, "c y": 1, "* x": 1}

    assert largest(counts, 1) == {"a x": 5, "* x": 3, "* y": 1}


def test_a_ledger_survives_its_file() -> None:
    ledger = Ledger(merged=["sample-1-0.json"], lost=2)
    ledger.add(Sample(NOW, GROUPS), NOW + 11)
    written(ledger)

    assert load(ledger.dump()) == ledger


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"life": 1, "rows": [[1]], "merged": [], "lost": 0}'])
def test_a_broken_file_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        load(data)
