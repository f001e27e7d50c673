"""The parts of the operator pages: times, ids, sizes, pills and small plots."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from django.utils.safestring import SafeString

from lucid_gateway.operators.numbers import size, thousands
from lucid_gateway.operators.templatetags.console import cut, pill, shown, sparkline, when

NOON = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def test_a_time_is_shown_in_utc_until_the_script_runs() -> None:
    assert when(NOON) == (
        '<time datetime="2026-03-01T12:00:05.000Z" title="2026-03-01 12:00:05 UTC">2026-03-01 12:00 UTC</time>'
    )


def test_a_time_of_another_zone_is_shown_in_utc() -> None:
    assert when(NOON.astimezone(timezone(timedelta(hours=5)))) == when(NOON)


def test_a_missing_time_is_a_dash() -> None:
    assert (when(None), when(None, "never")) == ("–", "never")


def test_a_long_id_is_cut_in_the_middle_and_copied_whole() -> None:
    key = UUID("0f6d5a51-0000-4000-8000-00000c419c41")
    assert "<code" in cut(key)
    assert ">0f6d5a…9c41</code>" in cut(key)
    assert f'data-copy="{key}"' in cut(key)


def test_a_short_id_is_shown_whole() -> None:
    assert ">abc</code>" in cut("abc")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (1288490189, "1.2 GiB"),
        (2**60, "1,024.0 PiB"), (None, "–"),
    ],
)  # fmt: skip
def test_a_size_has_the_largest_unit_that_fits(count: int | None, text: str) -> None:
    assert size(count) == text


def test_thousands_are_separated() -> None:
    assert (thousands(1234567), thousands(None)) == ("1,234,567", "–")


def test_texts_of_users_are_escaped() -> None:
    for html in (shown("<b>"), pill("<b>"), cut("<b>"), sparkline([1], "<b>")):
        assert "<b>" not in html
        assert "&lt;b&gt;" in html
        assert isinstance(html, SafeString)


def test_a_plot_fits_its_highest_value_and_leaves_gaps() -> None:
    svg = sparkline([0, 4, None, 2], "requests")
    assert 'points="0.0,23.0 33.3,1.0"' in svg
    assert 'points="100.0,12.0"' in svg


def test_a_plot_of_nothing_is_empty() -> None:
    assert "polyline" not in sparkline([], "requests")
