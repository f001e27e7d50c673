"""Kept requests are deleted when they are too old or too many."""

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from lucid_gateway.explorer import pruning
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.pruning import PruneEachMinute, key_after_newest
from lucid_gateway.explorer.tests.stage import kept

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def with_env(test_settings: Settings, **values: object) -> None:
    test_settings.ENV = settings.ENV.model_copy(update=values)


def test_rows_are_deleted_after_a_day(db: None) -> None:
    kept(DAY + MINUTE)
    young = kept(DAY - MINUTE)

    PruneEachMinute().run()

    assert [row.pk for row in KeptRequest.objects.all()] == [young.pk]


def test_of_too_many_rows_the_newest_stay(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=3)
    rows = [kept(number * MINUTE) for number in range(5)]

    PruneEachMinute().run()

    assert [row.pk for row in KeptRequest.objects.all()] == [row.pk for row in rows[:3]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_border_is_found_in_steps(db: None, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(pruning, "COUNTED_AT_ONCE", 2)
    rows = [kept(number * MINUTE) for number in range(5)]

    assert key_after_newest(count) == (rows[count].pk, 0)
    assert key_after_newest(5)[0] is None


def test_the_room_that_is_left_is_never_counted_too_large(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "COUNTED_AT_ONCE", 2)
    for number in range(5):
        kept(number * MINUTE)

    rooms = [key_after_newest(count)[1] for count in range(5, 12)]

    assert all(0 <= room <= count - 5 for room, count in zip(rooms, range(5, 12), strict=True))
    assert rooms[-1] >= 11 - 5 - 2


def test_each_minute_leaves_room_for_what_is_written_until_the_next(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=20)
    rows = [kept(number * MINUTE) for number in range(20)]

    PruneEachMinute().run()

    assert [row.pk for row in KeptRequest.objects.all()] == [row.pk for row in rows[:18]]


def test_rows_are_counted_again_before_there_can_be_too_many(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=1)
    turns = PruneEachMinute()
    turns.run()
    for number in range(2):
        kept(number * MINUTE)

    turns.run()

    assert KeptRequest.objects.count() == 1


def test_rows_are_not_counted_while_there_is_room_for_hours(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=100_000_000)
    turns, queries = PruneEachMinute(), []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            turns.run()
        queries.append(len(captured))

    assert queries[1] < queries[0]


def test_rows_that_are_deleted_early_count_as_left_out(
    db: None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[tuple[str, str, int]] = []
    monkeypatch.setattr(pruning, "count", lambda *counts: counted.append(counts))
    with_env(settings, EXPLORER_MAX_ROWS=2)
    for number in range(5):
        kept(number * MINUTE)

    PruneEachMinute().run()

    assert counted == [("explorer_left_out", "row_cap", 3)]


def test_the_command_prunes_kept_requests(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    kept(2 * DAY)
    kept(timezone.now() - timezone.now())

    call_command("prune", "--json")

    assert json.loads(capsys.readouterr().out)["requests"] == 1
    assert KeptRequest.objects.count() == 1
