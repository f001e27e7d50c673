"""Deletes kept requests that are too old or too many, in small steps that let others use the database."""

import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from accounts.prune import PruneTask, by_key
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.figures.gateways import read_gateways
from lucid_gateway.server.kept_requests import A_SECOND, LEFT_OUT
from lucid_gateway.server.samples import count

Rows = QuerySet[KeptRequest]
COUNTED_AT_ONCE = 20_000
PAUSE_SECONDS = 0.005
MINUTE = 60.0
LARGEST_RESERVE = 10  # a tenth of EXPLORER_MAX_ROWS
ROW_CAP = "row_cap"


def too_old(now: datetime) -> Rows:
    """Return the rows whose time to be kept is over."""
    return KeptRequest.objects.filter(pk__lt=key_at(now - timedelta(hours=settings.ENV.EXPLORER_KEEP_HOURS)))


def too_many(most: int) -> tuple[Rows, int]:
    """Return the oldest rows, without the newest `most`, and how many more rows there could be."""
    border, room = key_after_newest(most)
    return (KeptRequest.objects.filter(pk__lte=border) if border else KeptRequest.objects.none()), room


def key_after_newest(count: int) -> tuple[uuid.UUID | None, int]:
    """Return the key of the newest row after the newest `count` ones, None if there are no more rows; and how many rows
    fewer than `count` there are, up to 20,000 less than that.

    It steps along the index, because one step over a million keys would hold up the requests of the worker.
    """
    border: uuid.UUID | None = None
    left = count
    while left >= 0:
        step = min(left, COUNTED_AT_ONCE)
        keys = KeptRequest.objects.filter(pk__lt=border) if border else KeptRequest.objects.all()
        found = keys.order_by("-pk").values_list("pk", flat=True)[step : step + 1].first()
        if found is None:
            return None, max(0, left - step)
        border, left = found, left - step - 1
        time.sleep(PAUSE_SECONDS)
    return border, 0


def growth(seconds: float) -> int:
    """Return how many rows all gateways may write in this time; raise django.db.Error."""
    return int(seconds * A_SECOND * max(1, len(read_gateways())))


def prune_tasks(now: datetime) -> Iterator[PruneTask]:
    """Yield the tasks of `manage.py prune`."""
    yield task_of_age(now)
    yield task_of_number(too_many(settings.ENV.EXPLORER_MAX_ROWS)[0])


def task_of_age(now: datetime) -> PruneTask:
    return PruneTask("requests", too_old(now), "kept_id", by_key(KeptRequest))


def task_of_number(rows: Rows) -> PruneTask:
    return PruneTask("requests_over_the_maximum", rows, "kept_id", by_key(KeptRequest))


class PruneEachMinute:
    """Deletes rows that are too old. Before there can be too many, it counts them, and deletes the oldest of more than
    EXPLORER_MAX_ROWS less what the gateways may write until the next minute, so that there never are more.
    """

    every_seconds = MINUTE

    def __init__(self) -> None:
        self.full_at = 0.0  # when there may be too many rows, by the monotonic clock

    def run(self) -> None:
        """Delete the rows; raise django.db.Error."""
        for _ in task_of_age(timezone.now()).run():
            pass
        now = time.monotonic()
        if now + MINUTE < self.full_at:
            return
        most = settings.ENV.EXPLORER_MAX_ROWS
        reserve = min(growth(MINUTE), most // LARGEST_RESERVE)
        rows, room = too_many(most - reserve)
        for deleted in task_of_number(rows).run():
            count(LEFT_OUT, ROW_CAP, deleted)
        self.full_at = now + room / growth(1)
