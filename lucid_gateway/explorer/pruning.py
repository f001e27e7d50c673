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

Rows = QuerySet[KeptRequest]
COUNTED_AT_ONCE = 20_000
PAUSE_SECONDS = 0.005
MINUTE = 60.0


def too_old(now: datetime) -> Rows:
    """Return the rows whose time to be kept is over."""
    return KeptRequest.objects.filter(pk__lt=key_at(now - timedelta(hours=settings.ENV.EXPLORER_KEEP_HOURS)))


def too_many() -> Rows:
    """Return the oldest rows, without the newest EXPLORER_MAX_ROWS."""
    border = key_after_newest(settings.ENV.EXPLORER_MAX_ROWS)
    return KeptRequest.objects.filter(pk__lte=border) if border else KeptRequest.objects.none()


def key_after_newest(count: int) -> uuid.UUID | None:
    """Return the key of the newest row after the newest `count` ones, None if there are no more rows.

    It steps along the index, because one step over a million keys would hold up the requests of the worker.
    """
    border: uuid.UUID | None = None
    while count >= 0:
        step = min(count, COUNTED_AT_ONCE)
        keys = KeptRequest.objects.filter(pk__lt=border) if border else KeptRequest.objects.all()
        found = keys.order_by("-pk").values_list("pk", flat=True)[step : step + 1].first()
        if found is None:
            return None
        border, count = found, count - step - 1
        time.sleep(PAUSE_SECONDS)
    return border


def prune_tasks(now: datetime) -> Iterator[PruneTask]:
    """Yield the tasks of `manage.py prune`."""
    yield PruneTask("requests", too_old(now), "kept_id", by_key(KeptRequest))
    yield PruneTask("requests_over_the_maximum", too_many(), "kept_id", by_key(KeptRequest))


class PruneInTurns:
    """Deletes old rows each minute and looks for too many rows every ten minutes, when there may be 120,000 more."""

    every_seconds = MINUTE
    turns_between_counts = 10

    def __init__(self) -> None:
        self.turn = 0

    def run(self) -> None:
        """Run the task or tasks of this turn; raise django.db.Error."""
        tasks = list(prune_tasks(timezone.now())) if self.turn % self.turns_between_counts == 0 else []
        for task in tasks or [next(prune_tasks(timezone.now()))]:
            for _ in task.run():
                pass
        self.turn += 1
