"""Kept requests are deleted when they are too old or too many."""

import json
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from lucid_gateway.explorer import pruning
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.pruning import PruneInTurns, key_after_newest
from lucid_gateway.explorer.tests.stage import kept

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def with_env(test_settings: Settings, **values: object) -> None:
    test_settings.ENV = settings.ENV.model_copy(update=values)


def test_rows_are_deleted_after_a_day(db: None) -> None:
    kept(DAY + MINUTE)
    young = kept(DAY - MINUTE)

    PruneInTurns().run()

    assert [row.pk for row in KeptRequest.objects.all()] == [young.pk]


def test_of_too_many_rows_the_newest_stay(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=3)
    rows = [kept(number * MINUTE) for number in range(5)]

    PruneInTurns().run()

    assert [row.pk for row in KeptRequest.objects.all()] == [row.pk for row in rows[:3]]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_border_is_found_in_steps(db: None, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(pruning, "COUNTED_AT_ONCE", 2)
    rows = [kept(number * MINUTE) for number in range(5)]

    assert key_after_newest(count) == rows[count].pk
    assert key_after_newest(5) is None


def test_rows_are_counted_in_every_tenth_turn(db: None, settings: Settings) -> None:
    with_env(settings, EXPLORER_MAX_ROWS=1)
    turns = PruneInTurns()
    turns.run()
    for number in range(2):
        kept(number * MINUTE)

    for _ in range(9):
        turns.run()
    assert KeptRequest.objects.count() == 2
    turns.run()
    assert KeptRequest.objects.count() == 1


def test_the_command_prunes_kept_requests(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    kept(2 * DAY)
    kept(timezone.now() - timezone.now())

    call_command("prune", "--json")

    assert json.loads(capsys.readouterr().out)["requests"] == 1
    assert KeptRequest.objects.count() == 1
